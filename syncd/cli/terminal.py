"""Progress bars and tables on a terminal."""

import io
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from textwrap import TextWrapper
from typing import TextIO, cast

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from syncd.core.errors import LinkFailure, Side
from syncd.text.sanitize import inert, plain

LINE_MAX = 100
"""The maximum line length of prose, in characters, however wide the terminal is."""


_ID = re.compile(r"[a-z]{2,6}_[A-Za-z0-9]{10,}")
"""An id of Stripe, for example of a payment intent."""


@dataclass(slots=True)
class Show:
    """The bars of one run, in two phases: reading from Stripe, then writing to Halo.

    Attributes:
        bars: the bars; inactive if standard error is not a terminal.
    """

    bars: Progress
    listing_task: TaskID
    pushing_task: TaskID
    _due_max: int = 0
    _reason: str = ""

    @property
    def on_terminal(self) -> bool:
        """Whether a person sees the bars."""
        return not self.bars.disable

    def step(self, name: str) -> None:
        """Show that a step begins (list, poll, sweep, push); a push ends the reading phase."""
        if name != "push":
            return
        if not self.bars.tasks[self.listing_task].completed:
            self.bars.update(self.listing_task, completed=1.0, detail="done")
        self.bars.update(self.pushing_task, visible=True)
        self.bars.start_task(self.pushing_task)

    def listing(self, listed: int, share: float) -> None:
        """Show how many payments were listed, and the share of the period (0 to 1)."""
        self.bars.update(
            self.listing_task,
            visible=True,
            completed=share,
            detail=f"{listed:,} payment{'' if listed == 1 else 's'}",
        )

    def pushing(self, left: int) -> None:
        """Show how many payments are still due; the bar is full when none is."""
        self._due_max = max(self._due_max, left)
        self.bars.update(
            self.pushing_task,
            visible=True,
            completed=self._due_max - left,
            total=max(1, self._due_max),
            detail=f"{left:,} still due",
        )

    def rows(self, read: int, total: int) -> None:
        """Show how many of Halo's rows were read."""
        self._read("Reading Halo", read, total, " rows")

    def invoices(self, read: int, total: int) -> None:
        """Show how many of Halo's invoices were read."""
        self._read("Reading invoices", read, total)

    def _read(self, what: str, read: int, total: int, unit: str = "") -> None:
        """Show on Halo's bar how many items were read, of how many."""
        self.bars.update(
            self.pushing_task,
            visible=True,
            description=what,
            completed=read,
            total=total,
            detail=f"{read:,} of {total:,}{unit}",
        )

    def waiting(self, side: Side, seconds: float) -> None:
        """Show that a side's rate limit is used up, or that a side asked to wait."""
        self._say(side, f"rate limit: {seconds:.0f} s")

    def retrying(self, error: LinkFailure, seconds: float) -> None:
        """Show that a request failed and is sent again after some seconds."""
        self._say(error.side, f"next try in {seconds:.0f} s", str(error))

    def note(self, text: str) -> None:
        """Show why the push waits."""
        self._say(Side.HALO, "waiting", text)

    def _say(self, side: Side, text: str, reason: str = "") -> None:
        """Show the reason of a wait next to a bar; print it once above the bars."""
        if reason and reason != self._reason and self.on_terminal:
            self._reason = reason
            sys.stderr.write(f"{plain(reason, REASON_CHARACTERS_MAX)}\n")
        task = self.listing_task if side is Side.STRIPE else self.pushing_task
        self.bars.update(task, visible=True, detail=text)


REASON_CHARACTERS_MAX = 500


@contextmanager
def shown() -> Iterator[Show]:
    """Show bars on a terminal; no-op if stderr is not a terminal."""
    with _bars() as bars:
        yield Show(
            bars,
            bars.add_task("Reading Stripe", total=1.0, visible=True, detail=""),
            bars.add_task("Pushing to Halo", total=None, visible=False, start=False, detail=""),
        )


@dataclass(slots=True)
class Bar:
    """One bar: what is being read."""

    bars: Progress
    task: TaskID

    def begin(self, what: str) -> None:
        """Show what is read from now on."""
        self.bars.update(self.task, description=what, completed=0, total=None, detail="")

    def at(self, done: int, total: int | None) -> None:
        """Show how many items were read, of how many."""
        of = "" if total is None else f" of {total}"
        self.bars.update(self.task, completed=done, total=total, detail=f"{done}{of}")

    def waiting(self, side: Side, seconds: float) -> None:
        """Show that a side's rate limit is used up."""
        self.bars.update(
            self.task, detail=f"{side.capitalize()}'s rate limit: waiting {seconds:.0f} s"
        )

    def retrying(self, error: LinkFailure, seconds: float) -> None:
        """Show that a request failed and is sent again after some seconds."""
        side = error.side.capitalize()
        self.bars.update(self.task, detail=f"{side} does not answer; next try in {seconds:.0f} s")


@contextmanager
def bar() -> Iterator[Bar]:
    """Show one bar on a terminal; no-op if stderr is not a terminal."""
    with _bars() as bars:
        yield Bar(bars, bars.add_task("", total=None, detail=""))


@contextmanager
def _bars() -> Iterator[Progress]:
    """Bars at the bottom of the terminal; text written to standard error appears above them."""
    console = Console(file=sys.stderr)
    bars = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[detail]}"),
        TimeElapsedColumn(),
        console=console,
        disable=not sys.stderr.isatty(),
        transient=True,
        redirect_stderr=False,
    )
    before = sys.stderr
    with bars:
        if not bars.disable and not console.is_dumb_terminal:
            sys.stderr = cast("TextIO", _AboveBars(console))
        try:
            yield bars
        finally:
            sys.stderr = before


class _AboveBars(io.TextIOBase):
    """Writes whole lines above the bars. No line is broken, so that ids can be copied."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        self._begun = ""

    def write(self, text: str, /) -> int:
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            self._console.print(Text.from_ansi(line), soft_wrap=True, highlight=False)
        return len(text)

    def isatty(self) -> bool:
        return True


COLUMN_WIDTH = 8
"""A column of a table may become so narrow, in characters; an id needs its whole length."""

FRAME_WIDTH = 3
"""A column's frame and spaces, in characters."""


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table on stdout, without markup and control characters from its contents.

    If no column has a name, there is no heading. If the terminal is too narrow for an id, the same is
    printed as a list, so that the id can be copied.
    """
    cells = [[inert(str(cell)) for cell in row] for row in rows]
    # Rich assumes that a dumb terminal is 80 columns wide.
    width = width_of_terminal() or 160
    widths = _widths(columns, cells, width)
    if widths is not None:
        made = Table(title=title, title_justify="left", expand=False, show_header=any(columns))
        for column, wide in zip(columns, widths, strict=True):
            made.add_column(column, overflow="fold", width=wide)
        for row in cells:
            made.add_row(*map(Text, row))
        Console(width=width, height=25, markup=False, highlight=False).print(made)
        return
    typer.echo(title)
    for first, *others in cells:
        typer.echo(f"  {first}")
        for column, cell in zip(columns[1:], others, strict=True):
            if cell:
                typer.echo(f"    {column}: {cell}" if column else f"    {cell}")


def _widths(columns: Sequence[str], cells: Sequence[Sequence[str]], width: int) -> list[int] | None:
    """The widths of a table's columns, so that no id is broken; None if the ids need more space."""
    widths, narrowest = [], []
    for texts in zip(columns, *cells, strict=True):
        lines = [line for text in texts for line in text.splitlines() or [""]]
        widths.append(max(map(cell_len, lines)))
        ids = [len(line) for line in lines if _ID.fullmatch(line)]
        narrowest.append(max(ids, default=min(widths[-1], COLUMN_WIDTH)))
    excess = sum(widths) + FRAME_WIDTH * len(widths) + 1 - width
    while excess > 0:
        room = [wide - least for wide, least in zip(widths, narrowest, strict=True)]
        widest = max((wide, one) for one, wide in enumerate(widths) if room[one] or not any(room))
        if not room[widest[1]]:
            return None
        widths[widest[1]] -= 1
        excess -= 1
    return widths


def width_of_terminal() -> int | None:
    """The width of the terminal in characters; None if stdout is not a terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def aligned(rows: Sequence[Sequence[str]], width: int | None) -> list[str]:
    """Aligned cells, one line per row; no cell is ever broken, so that it can be copied.

    If that is wider than `width` characters, each row has its first cell on its own line.
    """
    shown = [[plain(cell, 255) for cell in row] for row in rows]
    sizes = [max(map(cell_len, cells)) for cells in zip(*shown, strict=True)]
    if width is not None and sum(sizes) + 2 * (len(sizes) - 1) > width:
        return ["\n    ".join([row[0], _line(row[1:], sizes[1:])]).rstrip() for row in shown]
    return [_line(row, sizes) for row in shown]


def _line(cells: Sequence[str], sizes: Sequence[int]) -> str:
    padded = (
        cell + " " * (size - cell_len(cell))
        for cell, size in zip(cells, sizes, strict=True)
        if size
    )
    return "  ".join(padded).rstrip()


def indented(text: str, width: int | None) -> str:
    """A sentence on its own lines, indented; no word is broken."""
    lines = [line.strip() for line in inert(text).splitlines()]
    if width is None:
        return "\n".join(f"    {line}" for line in lines)
    fitted = TextWrapper(
        min(width, LINE_MAX),
        initial_indent="    ",
        subsequent_indent="    ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(fitted.fill(line) for line in lines)


LABEL_WIDTH = 22


def labelled(label: str, text: str, width: int | None) -> str:
    """One line of a list of facts; long sentences are wrapped after the label, between words."""
    head = f"{label:<{LABEL_WIDTH}} "
    if width is None:
        return f"{head}{inert(text)}".rstrip()
    lines = TextWrapper(
        max(width, LABEL_WIDTH * 2),
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_long_words=False,
        break_on_hyphens=False,
    ).fill(inert(text))
    return lines.rstrip()
