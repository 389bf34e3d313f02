"""The command line: one command a step, the three errors as exit codes."""

import gc
import sys

from llambert_etl.imports import lasting


def main(arguments: list[str] | None = None) -> None:
    """Run `llambert` and exit with its code."""
    try:
        code = run(sys.argv[1:] if arguments is None else arguments)
    except KeyboardInterrupt:  # before the command began, or once more
        from llambert_etl.cli.outcome import interrupted

        code = interrupted()
    # All that is left goes with the process: where large libraries are among it, looking for garbage there takes longer
    # than a light step's work.
    gc.freeze()
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run one command in this process; return its exit code."""
    with lasting():
        from llambert_etl.cli.app import app
        from llambert_etl.cli.options import json_wanted
        from llambert_etl.cli.outcome import check_readable, conclude, set_up_logging

    set_up_logging("plain")
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    rest = arguments[len(options) :]
    json_wanted.set("--json" in options)
    given = [*(option for option in options if option != "--json"), *rest]
    if given in ([], *([group.name] for group in app.registered_groups if group.name)):
        given.append("--help")  # who names no command asks what there is
    prints = sys.stdout if "--help" in given else sys.stderr  # help is what was asked for

    def command() -> object:
        check_readable(given)
        return app(given, prog_name="llambert", standalone_mode=False)

    return conclude(command, prints)
