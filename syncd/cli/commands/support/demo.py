"""``syncd demo``: runs syncd between a simulated Stripe and a simulated Halo."""

from typing import Annotated

import typer


def demo(
    *,
    keep: Annotated[bool, typer.Option("--keep", help="Leave it running until Ctrl-C.")] = False,
) -> None:
    """Run syncd between a simulated Stripe and a simulated Halo on loopback; no account needed.

    Example: syncd demo --keep
    """
    from syncd.cli.demo import play  # the sandbox: only the demo needs it

    raise typer.Exit(play(keep=keep))
