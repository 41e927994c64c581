"""An audit as JSON, CSV, one page of HTML, and text for a terminal."""
