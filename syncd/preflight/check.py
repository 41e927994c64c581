"""A line of `syncd check`: level, area, what was checked, the result, and the remedy.

Does not belong here: how a line is judged (`verdicts`), and what is read (`local`, `remote`,
`messages`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """The result of one check."""

    PASS = "pass"
    WARN = "warn"
    FAIL = "fail"


class Area(StrEnum):
    """What a line is about; a failure decides the exit code by its area."""

    CONFIGURATION = "configuration"  # the file, the secrets, the database, the port
    STRIPE = "stripe"
    HALO = "halo"
    MACHINE = "machine"
    MESSAGES = "messages"  # notifications and the heartbeat


@dataclass(frozen=True, slots=True)
class Line:
    """One result of `syncd check`.

    Attributes:
        level: pass, warn or fail.
        area: what the line is about.
        what: what was checked, briefly.
        text: what was found.
        remedy: what to do; None for a pass.
    """

    level: Level
    area: Area
    what: str
    text: str
    remedy: str | None = None


def passed(area: Area, what: str, text: str) -> Line:
    """A line that passes."""
    return Line(Level.PASS, area, what, text)


def warned(area: Area, what: str, text: str, remedy: str) -> Line:
    """A line that warns."""
    return Line(Level.WARN, area, what, text, remedy)


def failed(area: Area, what: str, text: str, remedy: str) -> Line:
    """A line that fails: syncd cannot work."""
    return Line(Level.FAIL, area, what, text, remedy)


def exit_code(lines: Sequence[Line]) -> int:
    """0 if nothing fails; otherwise 78 for the configuration, 69 for a side, 1 for the rest."""
    areas = {line.area for line in lines if line.level is Level.FAIL}
    if Area.CONFIGURATION in areas:
        return 78
    if areas & {Area.STRIPE, Area.HALO}:
        return 69
    return 1 if areas else 0
