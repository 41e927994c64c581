"""Commands for setting syncd up: check and calibrate."""
