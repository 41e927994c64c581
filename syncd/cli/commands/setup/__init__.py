"""Commands for the setup of syncd: init, check, config, calibrate and prove."""
