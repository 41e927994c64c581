"""HTTP: health checks, metrics, and the page for people."""
