"""`python -m laptop.demo`: the whole loop on real reviews, from an empty folder to labelled Parquet."""

import argparse
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from laptop import Stack
from laptop.__main__ import addresses
from laptop.demo import report
from laptop.demo.data import DAYS, Review, read_corpus, write_gold
from laptop.demo.follow import Follower, StepFailedError
from laptop.demo.gather import Watched, gather
from laptop.demo.nights import Nights
from laptop.demo.summary import Summary
from laptop.process import interruptible
from laptop.stack import REMEMBERED_PORTS, REPOSITORY
from llambert_etl.config import LabellingTask, find_task
from llambert_etl.errors import ConfigError, LlambertError, TransientError
from llambert_etl.lake import Lake
from llambert_etl.partition import today
from llambert_etl.registry import Registry

TASK = "movie_sentiment"
QUESTIONS = (
    "Funny, tender and beautifully acted: one of the best films of the year.",
    "Two hours of explosions in search of a story.",
    "Not the disaster that everybody feared, and better than its poster.",
)
_FAILED = 1
_INTERRUPTED = 130


class Demo:
    """One demo on one state folder. Lines go to `console` with the seconds since the start."""

    def __init__(self, state: Path, console: Console) -> None:
        self._stack, self._console = _empty(state), console
        self._started = time.monotonic()
        self._parts: dict[str, float] = {}

    def run(self) -> Summary:
        """Start the servers, run the nights, report, and stop the servers whatever happens."""
        task = find_task(self._stack.settings.include, TASK)
        reviews = read_corpus(self._stack.root / ".models")
        write_gold(reviews, self._stack.settings.include / _gold(task))
        self._say(f"{len(reviews):,} reviews at hand; starting S3, MLflow and Airflow on an empty {self._stack.state}")
        try:
            with self._timed("servers started"):
                self._stack.start()
            self._console.print(f"\n{addresses(self._stack)}\n", markup=False, highlight=False)
            summary = self._nights(task, reviews)
        finally:
            self._say("stopping the servers")
            self._stack.stop()
        self._write(summary)
        return summary

    def _nights(self, task: LabellingTask, reviews: list[Review]) -> Summary:
        settings = self._stack.settings
        lake, registry = Lake.from_settings(settings), Registry.from_settings(settings)
        lake.create_tables()
        with self._stack.airflow.client() as airflow:
            follower = Follower(airflow, task.name, DAYS, self._say)
            nights = Nights(task, settings, registry, airflow, follower, self._say, {}, self._parts)
            nights.run(reviews)
            with self._timed("report"):
                watched = Watched(nights.landed, follower.steps, follower.runs, self._parts)
                return gather(
                    task,
                    settings=settings,
                    lake=lake,
                    registry=registry,
                    watched=watched,
                    reviews=reviews,
                    questions=QUESTIONS,
                )

    def _write(self, summary: Summary) -> None:
        file = self._stack.state / "summary.json"
        file.write_text(summary.model_dump_json(indent=2) + "\n")
        report.show(summary, self._console)
        self._console.print(f"\nThe same as JSON: {file}. `make up` serves this state again.", highlight=False)

    def _say(self, line: str) -> None:
        elapsed = time.monotonic() - self._started
        self._console.print(f"{elapsed:5.0f} s  {line}", markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self._parts[part] = round(time.monotonic() - started, 1)


def _empty(state: Path) -> Stack:
    """Return a stack without a past: what an earlier demo left would count as this one's.

    Raise ConfigError where servers run, or where the folder holds something that is no stack's.
    """
    if state.exists() and any(state.iterdir()) and not (state / REMEMBERED_PORTS).exists():
        raise ConfigError(f"{state}: is not empty and not the state of a stack; give the demo a folder of its own")
    shutil.rmtree(Stack(state).state)
    # The demo's days are fixed, and a clock may be before them.
    return Stack(state, more={"LLAMBERT_ALLOW_FUTURE": "true"} if DAYS[-1] > today() else {})


def _gold(task: LabellingTask) -> str:
    if task.gold is None:
        raise ConfigError(f"task {task.name!r}: names no gold file, and the demo measures on gold; set `gold:`")
    return task.gold


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m laptop.demo", description=__doc__)
    parser.add_argument("--state", type=Path, default=REPOSITORY / ".state", help="is emptied first (%(default)s)")
    arguments = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else report.WIDTH)
    try:
        with interruptible():
            Demo(arguments.state, console).run()
    except LlambertError as error:
        print(f"demo: {error}", file=sys.stderr)
        return error.exit_code
    except (StepFailedError, TimeoutError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return _FAILED
    except OSError as error:  # a full disk, a folder of somebody else's, no port left
        print(f"demo: {arguments.state}: {error}", file=sys.stderr)
        return TransientError.exit_code
    except KeyboardInterrupt:
        return _INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
