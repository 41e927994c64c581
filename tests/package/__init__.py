"""The Debian package and the container: built, installed, upgraded, removed and purged."""
