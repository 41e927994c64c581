"""Standard output and standard error of a command: what cannot be written, encodings and colours.

`install` replaces both streams of the process. Commands then print as usual.

- Standard output that cannot be written (a full disk, a closed pipe) raises `OutputFailed`, which
  `syncd.cli.main` turns into exit code 74. It never looks like "needs attention" (1).
- Standard error that cannot be written is ignored: a lost message must not stop the work.
- Characters that the encoding lacks are replaced by similar ASCII characters.
- With NO_COLOR, or on a terminal without colours (TERM=dumb), colour codes are removed
  (source of NO_COLOR: https://no-color.org).
"""

import codecs
import io
import os
import re
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import BinaryIO, TextIO, cast

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")

_ASCII = {
    "\N{RIGHTWARDS ARROW}": "->", "\N{HORIZONTAL ELLIPSIS}": "...", "\N{EN DASH}": "-",
    "\N{EM DASH}": "-", "\N{MIDDLE DOT}": "-", "\N{LEFT SINGLE QUOTATION MARK}": "'",
    "\N{RIGHT SINGLE QUOTATION MARK}": "'", "\N{LEFT DOUBLE QUOTATION MARK}": '"',
    "\N{RIGHT DOUBLE QUOTATION MARK}": '"', "\N{NO-BREAK SPACE}": " ",
}  # fmt: skip


class OutputFailed(Exception):
    """Standard output could not be written.

    Attributes:
        reader_left: whether the program that read the output has ended (`syncd … | head`).
    """

    def __init__(self, error: OSError) -> None:
        super().__init__(error.strerror or str(error))
        self.reader_left = isinstance(error, BrokenPipeError)


class _Stream(io.TextIOWrapper):
    """One of the two streams.

    Attributes:
        shape: changes a text before it is written: removes colour codes, replaces characters.
    """

    shape: Callable[[str], str] = str

    def write(self, text: str, /) -> int:
        """Write text, fit for this stream."""
        try:
            super().write(self.shape(text))
        except OSError as error:
            self.failed(error)
        return len(text)

    def flush(self) -> None:
        """Write what is buffered."""
        try:
            super().flush()
        except OSError as error:
            self.failed(error)

    def failed(self, error: OSError) -> None:
        """Handle a failed write."""
        raise OutputFailed(error) from None


class _Errors(_Stream):
    """Standard error. Text that cannot be written is dropped."""

    def failed(self, error: OSError) -> None:  # noqa: ARG002  # nobody can read a message
        """Write to /dev/null from now on."""
        _discard(2)


def install(environment: Mapping[str, str]) -> None:
    """Replace standard output and standard error of this process."""
    plain = bool(environment.get("NO_COLOR")) or environment.get("TERM") in ("dumb", "unknown")
    codecs.register_error("syncd.ascii", _similar)
    _fill_closed()
    output, errors = sys.stdout, sys.stderr
    encodings = [getattr(stream, "encoding", None) or "utf-8" for stream in (output, errors)]
    sys.stdout = _Stream(
        _buffer_of(output, 1), _wide(encodings[0]), "syncd.ascii", line_buffering=os.isatty(1)
    )
    sys.stderr = _Errors(
        _buffer_of(errors, 2), _wide(encodings[1]), "syncd.ascii", line_buffering=True
    )
    for stream, encoding in zip((sys.stdout, sys.stderr), encodings, strict=True):
        stream.shape = partial(_shaped, plain=plain, to_ascii=_is_ascii(encoding))
    # `shutil.get_terminal_size` uses this stream.
    sys.__stdout__ = sys.stdout  # type: ignore[misc]


def finish() -> None:
    """Write what is still buffered.

    Raises:
        OutputFailed: the output could not be written.
    """
    try:
        sys.stdout.flush()
    except OutputFailed:
        _discard(1)  # otherwise the interpreter tries to write the same again at its end
        raise


def report(failed: OutputFailed) -> None:
    """Print on standard error that the output could not be written."""
    _discard(1)
    if not failed.reader_left:
        sys.stderr.write(f"syncd: standard output could not be written: {failed}\n")


def _shaped(text: str, *, plain: bool, to_ascii: bool) -> str:
    """Remove colour codes, and characters that ASCII lacks."""
    if plain:
        text = _COLOUR.sub("", text)
    return text.encode("ascii", "syncd.ascii").decode("ascii") if to_ascii else text


def _is_ascii(encoding: str) -> bool:
    return codecs.lookup(encoding).name == "ascii"


def _wide(encoding: str) -> str:
    """Latin-1 instead of ASCII, because click bypasses a stream whose encoding is ASCII."""
    return "latin-1" if _is_ascii(encoding) else encoding


def _similar(error: UnicodeError) -> tuple[str, int]:
    """Replace characters that the encoding lacks."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_ASCII.get(c, "?") for c in error.object[error.start : error.end]), error.end


def _fill_closed() -> None:
    """Open /dev/null in place of closed streams, so that no file takes their numbers.

    Standard output is then read-only: writing to it fails, as it would have failed when closed.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR if number == 2 else os.O_RDONLY)


def _discard(number: int) -> None:
    """Redirect this stream to /dev/null from now on."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)


def _buffer_of(stream: TextIO | None, number: int) -> BinaryIO:
    """The byte buffer of a stream; Python has no stream if the number was closed at the start."""
    if isinstance(stream, io.TextIOWrapper):
        return cast("BinaryIO", stream.detach())
    return open(number, "wb", closefd=False)
