"""The benchmark: what syncd costs, as counts and ratios over real HTTP to the sandbox."""
