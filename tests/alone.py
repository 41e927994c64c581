"""``python -m tests.alone`` is the command ``syncd`` on a machine without /etc/syncd/config.toml.

The tests start syncd by this module, so that the configuration of a real installation is never read.
"""

from pathlib import Path

from syncd.config import load


class Absent(type(Path())):  # type: ignore[misc]  # the class of this system's paths
    """A path at which there is nothing."""

    def exists(self, **_: bool) -> bool:
        """Whether there is something: never."""
        return False


def without_the_machine() -> None:
    """Make syncd find no configuration of the machine."""
    load.PLACES = tuple(  # type: ignore[assignment]
        Absent(place) if place.is_absolute() else place for place in load.PLACES
    )


if __name__ == "__main__":
    from syncd.cli.main import main

    without_the_machine()
    main()
