"""Commands for support: export."""
