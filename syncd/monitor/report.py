"""The part of `telemetry` that the engine needs: the log and the metrics."""

from typing import Any, Protocol


class Report(Protocol):
    """The log and the metrics."""

    def log(self, level: str, event: str, **fields: Any) -> None:
        """Write one line of the log."""

    def count(self, name: str, number: int = 1, **labels: str) -> None:
        """Add to a counter."""

    def lag(self, seconds: float) -> None:
        """Add to the histogram of the time from Stripe's event to Halo's acknowledgement."""
