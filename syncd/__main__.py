"""``python -m syncd`` is the command ``syncd``."""

import sys


def main() -> None:
    """Run the command. Ctrl-C while the modules are still loading ends it quietly, too."""
    try:
        from syncd.cli.main import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
