"""``syncd config``: the values in use and their sources, a check of the file, and the file's schema."""

import json
import os
from dataclasses import asdict
from typing import Annotated

import typer

from syncd.cli.shared import ConfigOption, JsonOption, failures_said, offline
from syncd.config.advice import advice_for
from syncd.config.describe import Value, schema, values
from syncd.config.load import load
from syncd.text.no_proxy import no_proxy_problems
from syncd.text.sanitize import inert

config_app = typer.Typer(
    name="config",
    help="Show, check and describe the configuration.\n\nExample: syncd config show",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@config_app.command(short_help="Show each value, and where it comes from.")
def show(
    context: typer.Context, config: ConfigOption = None, *, as_json: JsonOption = False
) -> None:
    """Show each value of the configuration, and where it comes from; never a secret.

    A value comes from a line of the file, from a variable, or is the default. A secret is "set" or
    "not set".

    Example: syncd config show --json
    """
    with failures_said(afresh=True):
        loaded = offline(config or context.obj)
    found = values(loaded, os.environ)
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in found], indent=2))
    else:
        from syncd.cli.terminal import aligned  # `validate` needs no table

        for line in aligned([(one.key, written(one), one.source) for one in found], None):
            typer.echo(inert(line))


def written(one: Value) -> str:
    """A value in the file's notation."""
    if one.value is None:
        return "not set"
    if isinstance(one.value, bool):
        return str(one.value).lower()
    return str(one.value) if one.value != "" else '""'


@config_app.command(
    short_help="Check only the file and the secrets; send nothing to Stripe or Halo."
)
def validate(
    context: typer.Context,
    *,
    without_secrets: Annotated[
        bool,
        typer.Option(
            "--without-secrets",
            help="Check only the file and the environment variables, without the secrets.",
        ),
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Check the configuration without asking Stripe or Halo. Exit: 0 syncd can use it, 78 it cannot.

    Names every problem with its line. `systemctl reload syncd` runs this first, so that the service
    never sees a wrong file. Warns of unusual values.

    Example: syncd config validate --config new.toml --without-secrets
    """
    with failures_said(afresh=True):
        loaded = load(config or context.obj, os.environ, signing_in=not without_secrets)
    where = "the environment" if loaded.file is None else str(loaded.file)
    typer.echo(f"{inert(where)}: every key and value is valid")
    for advice in advice_for(loaded):
        typer.echo(inert(f"warning: {advice.key}: {advice.text}. {advice.remedy}"), err=True)
    for problem in no_proxy_problems(os.environ):
        typer.echo(inert(f"warning: {problem}"), err=True)


@config_app.command("schema", short_help="Print the JSON schema of config.toml, for editors.")
def print_schema() -> None:
    """Print the JSON schema of config.toml.

    Example: syncd config schema > config.schema.json
    """
    typer.echo(json.dumps(schema(), indent=2))
