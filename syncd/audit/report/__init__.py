"""Writes an audit as JSON, CSV, one HTML page, and text for a terminal."""
