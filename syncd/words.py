"""Numbers as people write them. Pure."""


def counted(number: int, noun: str) -> str:
    """``1 payment``, ``2 payments``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def duration(seconds: float) -> str:
    """A span of time in its two largest units: ``3 h 20 min``."""
    whole = max(0, int(seconds))
    for size, unit, smaller, part in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min")):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {unit}" + (f" {rest} {part}" if rest else "")
    if whole >= 60:
        return f"{whole // 60} min"
    return f"{whole} s" if whole else "under 1 s"
