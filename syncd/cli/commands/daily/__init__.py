"""Commands for daily work: status, attention and audit."""
