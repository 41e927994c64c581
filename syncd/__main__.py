"""``python -m syncd`` runs the command ``syncd``."""

import sys


def main() -> None:
    """Run the command. Ctrl-C while the modules are loading also ends it without a traceback."""
    try:
        from syncd.cli.main import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
