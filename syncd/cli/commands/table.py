"""The commands of syncd by name. A command is loaded only when a person calls it.

Loading all commands takes most of a second of processor time, which every call would otherwise
need.
"""

import difflib
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import typer


@dataclass(frozen=True, slots=True)
class Entry:
    """A command that is not loaded yet.

    Attributes:
        module: the module of the command, below `syncd.cli.commands`.
        name: the name of the command's function, or of its group, in that module.
        short_help: its line in the list of commands, where a long first sentence would be cut.
    """

    module: str
    name: str
    short_help: str

    def load(self, name: str) -> Any:
        """Load the module; return the command."""
        found = getattr(import_module(f"syncd.cli.commands.{self.module}"), self.name)
        if isinstance(found, typer.Typer):
            group = typer.main.get_group(found)
            group.name, group.short_help = name, self.short_help
            return group
        alone = typer.Typer(add_completion=False, rich_markup_mode=None)
        alone.command(name, short_help=self.short_help)(found)
        return typer.main.get_command(alone)

    def listed(self, name: str) -> Any:
        """What the list of commands shows, without loading the command."""
        return typer.core.TyperCommand(name, callback=None, short_help=self.short_help)


ENTRIES = {
    "init": Entry(
        "setup.init", "init", "Set up: ask, test each answer, write the file and secrets."
    ),
    "check": Entry(
        "setup.check", "check", "Check everything that can be known before the first push."
    ),
    "calibrate": Entry(
        "setup.calibrate", "calibrate", "Find the tenant's status numbers in its own rows."
    ),
    "prove": Entry("setup.prove", "prove", "Write one row, read it back, and show what changed."),
    "status": Entry("daily.status", "status", "Status: last poll, payments due, requests left."),
    "resync": Entry(
        "operate.resync", "resync", "Read one payment intent again and write its state to Halo."
    ),
    "audit": Entry("daily.audit", "audit", "Compare Stripe and Halo since a date; read-only."),
    "bugreport": Entry(
        "support.bugreport",
        "bugreport",
        "Write one file that describes a problem, without secrets or names.",
    ),
    "export": Entry(
        "support.export", "export", "Write everything that syncd remembers to stdout, as JSON."
    ),
    "copy": Entry("support.copy", "copy", "Copy the database to another file or server."),
    "demo": Entry(
        "support.demo",
        "demo",
        "Run syncd between a simulated Stripe and Halo.",
    ),
    "attention": Entry("daily.attention", "attention_app", "List what needs your action, and why."),
    "config": Entry("setup.config", "config_app", "Show, check and describe the configuration."),
}
"""All commands, in the order of the help."""


class Loading(MutableMapping[str, Any]):
    """The commands by name; a command is loaded when it is looked up."""

    def __init__(self) -> None:
        self._loaded: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._loaded:
            self._loaded[name] = ENTRIES[name].load(name)
        return self._loaded[name]

    def __contains__(self, name: object) -> bool:
        return name in ENTRIES

    def __setitem__(self, name: str, command: Any) -> None:
        self._loaded[name] = command

    def __delitem__(self, name: str) -> None:
        del self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(ENTRIES)

    def __len__(self) -> int:
        return len(ENTRIES)


class Commands(typer.core.TyperGroup):
    """The commands by name; suggests an option of a similar name for an unknown command.

    Typer itself suggests commands of a similar name.
    """

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = Loading()

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002  # as Typer calls it
        """The names, in the order of the help."""
        return list(self.commands)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002  # as Typer calls it
        """What the list of commands and shell completion show of a command."""
        return ENTRIES[cmd_name].listed(cmd_name) if cmd_name in ENTRIES else None

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Find the command that the first argument names, and load it."""
        options = {
            option.lstrip("-"): option
            for parameter in self.params
            if parameter.param_type_name == "option"
            for option in parameter.opts
        }
        if args and args[0] not in self.commands:
            near = difflib.get_close_matches(args[0].strip("-"), options, n=1, cutoff=0.75)
            if near and not difflib.get_close_matches(args[0], self.commands):
                ctx.fail(f"No such command {args[0]!r}. Did you mean {options[near[0]]}?")
        name, command, rest = super().resolve_command(ctx, args)
        return name, command if name is None else self.commands[name], rest
