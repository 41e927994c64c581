"""The commands, one file each; `syncd.cli` puts them together."""
