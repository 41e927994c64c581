"""Prints the man page syncd(8), built from what `--help` is built from: ``make man``.

Whatever commands there are, they are taken; nothing about them is written here a second time.
"""

import re
import sys
from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from syncd import __version__
from syncd.cli.main import app
from syncd.cli.shared import EXITS
from syncd.config.load import PLACES
from syncd.config.model import State
from syncd.config.secrets import SECRETS

FILES = {
    **{str(place): "the configuration: the first of these that is there." for place in PLACES},
    State().url.removeprefix("sqlite:///"): "what syncd remembers (state.url).",
    "/etc/syncd/stripe_api_key": "the key of Stripe, handed over by systemd (LoadCredential=).",
    "/etc/syncd/halo_client_secret": "the secret of Halo's application, likewise.",
}

ENVIRONMENT = {
    "SYNCD_CONFIG": "the configuration file, where --config names none.",
    "SYNCD_SECTION__KEY": "any key of the file, such as SYNCD_HALO__URL; it wins over the file.",
    "CREDENTIALS_DIRECTORY": "the folder with the secrets, one file each: " + ", ".join(SECRETS),
    **{variable: f"{secret}, where that folder has none." for secret, variable in SECRETS.items()},
}

SIGNALS = {
    "SIGTERM, SIGINT": "finish the current request, record its outcome, and end.",
    "SIGHUP": "read the configuration again (systemctl reload syncd).",
}

COMPLETION = """\
syncd \\-\\-install\\-completion sets it up for the current user and shell. For all users of bash:
.PP
.EX
_SYNCD_COMPLETE=source_bash syncd > /etc/bash_completion.d/syncd
.EE"""


def page() -> str:
    """The whole man page, in the man macros."""
    root: Any = get_command(app)
    first, *more = _paragraphs(root.help)
    lines = [
        f'.TH SYNCD 8 "" "syncd {__version__}" "System Administration"',
        ".\\\" Built from the program's own help by docs/manpage.py. Don't edit.",
        ".SH NAME",
        f"syncd \\- {_text(first[0].lower() + first[1:].rstrip('.'))}",
        ".SH SYNOPSIS",
        *_usages(root, "syncd"),
        ".SH DESCRIPTION",
        *_help(more),
        ".SH OPTIONS",
        *_options(root),
        ".SH COMMANDS",
        *_commands(root, "syncd"),
    ]
    for title, entries in (
        ("EXIT STATUS", {str(code): f"{words}." for code, words in EXITS.items()}),
        ("FILES", FILES),
        ("ENVIRONMENT", ENVIRONMENT),
        ("SIGNALS", SIGNALS),
    ):
        lines.append(f".SH {title}")
        for name, words in entries.items():
            lines += _entry(f".B {_text(name)}", words)
    lines += [".SH SHELL COMPLETION", COMPLETION, ".SH SEE ALSO", ".BR systemctl (1)"]
    return "\n".join(lines) + "\n"


def _usages(command: Any, name: str) -> Iterator[str]:
    """One line of synopsis for a command and for each of its subcommands."""
    words = [_usage(parameter) for parameter in command.params if not parameter.hidden]
    yield f".SY {_quoted(name)}"
    yield from (word for word in words if word is not None)
    yield ".YS"
    for child in _children(command):
        yield from _usages(child, f"{name} {child.name}")


def _usage(parameter: Any) -> str | None:
    if parameter.name in ("install_completion", "show_completion"):
        return None
    if parameter.param_type_name == "argument":
        return f".I {_text(_value(parameter))}"
    name = _text(parameter.opts[-1])
    if parameter.required:
        return f'.BI "{name} " {_quoted(_value(parameter))}'
    return f".OP {name}" if parameter.is_flag else f".OP {name} {_quoted(_value(parameter))}"


def _value(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name.upper())


def _commands(command: Any, name: str) -> Iterator[str]:
    for child in _children(command):
        yield f".SS {_quoted(f'{name} {child.name}')}"
        yield from _help(_paragraphs(child.help))
        yield from _options(child)
        yield from _commands(child, f"{name} {child.name}")


def _children(command: Any) -> list[Any]:
    return [c for c in getattr(command, "commands", {}).values() if not c.hidden]


def _options(command: Any) -> Iterator[str]:
    for parameter in command.params:
        if parameter.param_type_name != "option" or parameter.hidden:
            continue
        names = ", ".join(f"\\fB{_text(option)}\\fR" for option in parameter.opts)
        value = "" if parameter.is_flag else f" \\fI{_text(_value(parameter))}\\fR"
        yield from _entry(names + value, parameter.help or "")


def _entry(head: str, words: str) -> list[str]:
    return [".TP", head, _text(words)]


def _paragraphs(text: str | None) -> list[str]:
    return [" ".join(part.split()) for part in re.split(r"\n\s*\n", (text or "").strip())]


def _help(paragraphs: list[str]) -> Iterator[str]:
    """Paragraphs; one that is an example is shown as one types it."""
    for paragraph in paragraphs:
        example = paragraph.removeprefix("Example: ")
        if example == paragraph:
            yield from (".PP", _text(paragraph))
        else:
            yield from (".PP", "Example:", ".PP", ".EX", _text(f"    {example}"), ".EE")


def _quoted(text: str) -> str:
    return f'"{_text(text)}"'


def _text(text: str) -> str:
    """Text as roff takes it literally."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("…", "...")
    text = text.replace("→", "\\(->").replace('"', "\\(dq")
    return f"\\&{text}" if text.startswith(".") else text


if __name__ == "__main__":
    sys.stdout.write(page())
