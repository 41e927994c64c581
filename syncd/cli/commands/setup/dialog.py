"""Asks the user on a terminal, or takes a script's answers from the environment."""

import getpass
import sys
from dataclasses import dataclass

import typer

from syncd.config.model import ConfigurationError
from syncd.preflight.check import Level, Line
from syncd.text.sanitize import inert

_COLOURS = {Level.PASS: "green", Level.WARN: "yellow", Level.FAIL: "red"}


@dataclass(frozen=True, slots=True)
class Dialog:
    """Asks for values and secrets.

    Attributes:
        scripted: whether to use the values in the environment instead of asking.
    """

    scripted: bool

    def say(self, text: str = "") -> None:
        """Print a line for people."""
        typer.echo(inert(text), err=True)

    def show(self, line: Line) -> None:
        """Print the result of a test, with the remedy."""
        mark = typer.style(f"{line.level:<5}", fg=_COLOURS[line.level])
        typer.echo(f"  {mark} {inert(f'{line.what}: {line.text}')}", err=True)
        if line.remedy is not None:
            typer.echo(f"        {inert(line.remedy)}", err=True)

    def ask(self, what: str, now: str, variable: str, *, optional: bool = False) -> str:
        """Ask for a value; Enter keeps the present one.

        Raises:
            ConfigurationError: no value is set, and there is no terminal to ask on.
        """
        if self.scripted:
            if not now and not optional:
                raise ConfigurationError([f"{what} is missing: set {variable}"])
            return now
        shown = f" [{inert(now)}]" if now else ""
        while True:
            answer = _line(f"{what}{shown}: ") or now
            if answer or optional:
                return answer

    def ask_secret(self, what: str, variable: str, *, is_set: bool) -> str:
        """Ask for a secret without displaying it; an empty answer keeps the present one.

        Raises:
            ConfigurationError: no value is set, and there is no terminal to ask on.
        """
        if self.scripted:
            if not is_set:
                raise ConfigurationError([f"{what} is missing: set {variable}"])
            return ""
        shown = " [set; Enter keeps it]" if is_set else ""
        while True:
            answer = getpass.getpass(f"{what}{shown}: ", sys.stderr).strip()
            if answer or is_set:
                return answer

    def confirm(self, question: str) -> bool:
        """Ask a question whose usual answer is yes; a script answers yes."""
        return self.scripted or _line(f"{question} [Y/n] ").lower() in ("", "y", "yes")


def _line(question: str) -> str:
    sys.stderr.write(question)
    sys.stderr.flush()
    line = sys.stdin.readline()
    if not line:  # the end of the input
        raise KeyboardInterrupt
    return line.strip()
