"""`python -m laptop up|down|local`: serve the stack on a state folder, or do without servers."""

import argparse
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from laptop.credentials import write_private
from laptop.environment import settings_in, shell_lines, variables
from laptop.process import end_processes, interruptible, processes_under
from laptop.stack import REPOSITORY, Stack, supervisor_of
from llambert_etl.errors import LlambertError, TransientError

_STOP_SECONDS = 60.0
_GRACE_SECONDS = 10.0


def up(state: Path) -> None:
    """Serve until Ctrl-C, `down`, or the end of one server; then stop all."""
    with interruptible():
        stack = Stack(state)
        print(f"starting S3, MLflow and Airflow on {stack.state} (about a minute) ...", flush=True)
        with stack:
            print(addresses(stack), flush=True)
            with suppress(SystemExit):  # TERM, which `down` sends: to be stopped is how serving ends
                stack.watch()


def down(state: Path) -> None:
    """Stop what runs on this state folder: the one who serves it first, then whatever was left behind."""
    if supervisor := supervisor_of(state):
        supervisor.terminate()
        psutil.wait_procs([supervisor], timeout=_STOP_SECONDS)
    end_processes(lambda: processes_under(state), grace=_GRACE_SECONDS)
    print(f"nothing runs on {state}")


def local(state: Path) -> None:
    """Make a deployment of folders and a SQLite file, for steps by hand: no server, no Airflow."""
    folder = state.resolve()
    settings = settings_in(folder, REPOSITORY)
    (folder / "landing").mkdir(parents=True, exist_ok=True)
    write_private(folder / "env", shell_lines(variables(settings)))
    print(f"Landing  {folder / 'landing'}\nLake     {folder / 'lake'}\nShell    `. {folder / 'env'}`, then `llambert`")


def addresses(stack: Stack) -> str:
    """Return where everything is and how to log in, as text for a terminal."""
    return "\n".join(
        [
            f"Airflow  {stack.airflow.url}  user {stack.airflow.username}  password {stack.airflow.password}",
            f"MLflow   {stack.mlflow.uri}  user {stack.mlflow.username}  password {stack.mlflow.password}",
            f"S3       {stack.s3.endpoint}  key {stack.s3.access_key}  secret {stack.s3.secret_key}",
            f"State    {stack.state}",
            f"Shell    `. {stack.shell_file}` gives it all of this as variables, and `llambert` on its PATH",
            "Ctrl-C or `make down` stops everything.",
        ]
    )


_COMMANDS: dict[str, tuple[Callable[[Path], None], str]] = {
    "up": (up, ".state"),
    "down": (down, ".state"),
    "local": (local, ".local"),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m laptop", description=__doc__)
    parser.add_argument("command", choices=tuple(_COMMANDS))
    parser.add_argument("--state", type=Path, help="default: .state, and .local for `local`, in the repository")
    arguments = parser.parse_args()
    serve, folder = _COMMANDS[arguments.command]
    state = arguments.state or REPOSITORY / folder
    try:
        serve(state)
    except LlambertError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except OSError as error:  # a full disk, a folder of somebody else's, no port left
        print(f"{state}: {error}", file=sys.stderr)
        return TransientError.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
