"""``python -m tests.alone`` runs the command ``syncd`` as if /etc/syncd/config.toml did not exist.

The tests start syncd through this module, so that they never read the configuration of a real installation.
"""

from pathlib import Path

from syncd.config import load


class Absent(type(Path())):  # type: ignore[misc]  # the class of this system's paths
    """A path that never exists."""

    def exists(self, **_: bool) -> bool:
        """Return False."""
        return False


def without_the_machine() -> None:
    """Make syncd ignore the configuration files of this machine."""
    load.PLACES = tuple(  # type: ignore[assignment]
        Absent(place) if place.is_absolute() else place for place in load.PLACES
    )


if __name__ == "__main__":
    from syncd.cli.main import main

    without_the_machine()
    main()
