"""The command line: one command a step, the three errors as exit codes."""

import sys

from llambert_etl.cli.outcome import conclude, set_up_logging


def main(arguments: list[str] | None = None) -> None:
    """Run `llambert` and exit with its code."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: list[str]) -> int:
    """Run one command in this process; return its exit code."""
    from llambert_etl.cli.app import app

    set_up_logging("plain")
    prints = sys.stdout if "--help" in arguments else sys.stderr  # help is what was asked for
    return conclude(lambda: app(arguments, standalone_mode=False), prints)
