"""One labelling task on a real Airflow: its deployment, how a scenario moves it, and what a phase left behind."""

import datetime
import gzip
import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

import polars as pl
import pytest
import yaml

from laptop import Stack
from laptop.airflow_client import AirflowClient, Run, TaskInstance
from laptop.demo.data import Review
from laptop.environment import ANNOTATOR, ENCODER, LANDING
from llambert_etl.errors import TransientError
from llambert_etl.lake import Lake
from llambert_etl.manifest import Manifest
from llambert_etl.partition import Partition
from llambert_etl.registry import ModelVersion, Registry
from llambert_etl.schemas import TABLES, TableName
from tests.airflow.examples import Examples
from tests.given.tasks import task_fields

TASK = "reviews"
KINDS = ("label", "retrain", "ingest", "relabel")  # consumers first: a paused one loses events
# Odd, so that two labels can never have half of a day each; and enough for the gates to look at shares.
PER_DAY = 111
NEW_TEXTS = 40
SAMPLE = 120
GOLD = 150

_TODAY = datetime.datetime.now(datetime.UTC).date()
# The last of the three is the day that has ended, and the fourth comes a night later.
FIRST, SECOND, THIRD, FOURTH = (
    Partition((_TODAY + datetime.timedelta(days=offset)).isoformat()) for offset in (-3, -2, -1, 0)
)
HISTORY = (FIRST, SECOND, THIRD)


class Moment(NamedTuple):
    """What Airflow, the lake and the registry held when a phase had ended."""

    runs: list[Run]
    tables: dict[TableName, pl.DataFrame]
    versions: dict[TableName, int]
    champion: ModelVersion | None
    named: dict[str, Run]  # the runs of this phase that a test asks about

    def runs_of(self, kind: str, day: Partition | None = None) -> list[Run]:
        return [run for run in self.runs if run.dag == f"{TASK}__{kind}" and day in (None, run.partition)]

    def accepted(self, *days: Partition) -> pl.DataFrame:
        documents = self.tables["documents"].filter(pl.col("status") == "accepted")
        return documents.filter(pl.col("partition").is_in(days)) if days else documents

    def labels(self, day: Partition) -> pl.DataFrame:
        return self.tables["labels"].filter(pl.col("partition") == day).sort("id")


class Loop:
    """The deployment, and how the scenario moves it. `red` are the runs that are meant to fail."""

    def __init__(self, stack: Stack, client: AirflowClient) -> None:
        self.stack, self.client = stack, client
        self.examples = Examples(stack.airflow, TASK)
        self.settings = stack.settings
        self.lake, self.registry = Lake.from_settings(stack.settings), Registry.from_settings(stack.settings)
        self.red: set[str] = set()

    # What arrives

    def drop(self, day: Partition, lines: Sequence[bytes], name: str = "reviews.jsonl.gz") -> None:
        body = gzip.compress(b"\n".join(lines), mtime=0)
        self.stack.s3.client().put_object(Bucket=LANDING, Key=f"{TASK}/{day}/{name}", Body=body)

    def write_task(self, *, approval: bool = False, **gates: float) -> None:
        """Write the task file whole: the Dag processor and the steps read it at any moment."""
        file = self.settings.include / "tasks" / f"{TASK}.yaml"
        part = file.with_suffix(".part")
        part.write_text(yaml.safe_dump(reviews_task(gates, approval), sort_keys=False))
        part.replace(file)

    # What Airflow is told

    def trigger(self, kind: str, day: Partition | None, **conf: object) -> Run:
        return self.client.trigger(f"{TASK}__{kind}", day, conf)

    def example(self, title: str, **others: str) -> Run:
        """Run an example of docs/airflow.md and return the run that it has started."""
        found = self.examples.run(title, **others)["run"]
        return self.client.run(found["dag_id"], quote(found["dag_run_id"], safe=""))

    def until(self, what: str, reached: Callable[[list[Run]], bool], deadline: float = 550.0) -> list[Run]:
        """Wait until no run is under way and `reached` holds; fail with the log where a run fails that should not."""

        def ask() -> list[Run] | None:
            runs = self.runs()
            for run in runs:
                if run.state == "failed" and run.run_id not in self.red:
                    pytest.fail(f"{what}: {run.dag} {run.partition} failed\n{self.why(run)}", pytrace=False)
            return runs if all(run.state in ("success", "failed") for run in runs) and reached(runs) else None

        try:
            return self.client.wait_for(what, ask, deadline=deadline)
        except TransientError as error:
            seen = "\n".join(f"{run.dag} {run.partition} {run.kind} {run.state}" for run in self.runs())
            pytest.fail(f"{error}; runs:\n{seen}", pytrace=False)

    def runs(self) -> list[Run]:
        return [run for kind in KINDS for run in self.client.runs(f"{TASK}__{kind}")]

    # What it did

    def steps(self, run: Run) -> dict[str, TaskInstance]:
        """Return the run's tasks by name; of a mapped one, the last shard."""
        return {found.task: found for found in self.client.task_instances(run.dag, quote(run.run_id, safe=""))}

    def log(self, run: Run, step: TaskInstance) -> list[str]:
        number = max(step.tries, 1)
        run_id = quote(run.run_id, safe="")
        return self.client.log(run.dag, run_id, step.task, number=number, map_index=step.map_index).splitlines()

    def why(self, run: Run) -> str:
        failed = [step for step in self.steps(run).values() if step.state in ("failed", "up_for_retry")]
        return "\n".join(line for step in failed for line in [f"-- {step}", *self.log(run, step)[-25:]])

    def published(self, day: Partition) -> list[Manifest]:
        """Return the manifest of each commit of a day's labels, newest first."""
        manifests = [commit.manifest for commit in self.lake.commits("labels", TASK) if commit.manifest]
        return [manifest for manifest in manifests if manifest.partition == day]

    def moment(self, runs: list[Run], **named: Run) -> Moment:
        return Moment(
            runs,
            {table: self.lake.scan(table, TASK).collect() for table in TABLES},
            {table: self.lake.version(table) for table in TABLES},
            self.registry.champion(TASK),
            named,
        )


def reviews_task(gates: dict[str, float], approval: bool) -> dict[str, Any]:
    fields = task_fields(TASK)
    # A day on which no drop of this scenario falls: nothing here is trained because it is Sunday.
    weekday = (_TODAY + datetime.timedelta(days=2)).strftime("%A").lower()
    return {
        **fields,
        "prompt": {
            "template": "reviews.j2",
            "examples": [
                {"text": "An instant classic: warm, funny and beautifully acted.", "label": "positive"},
                {"text": "Two hours I will not get back; dull and clumsy.", "label": "negative"},
                {"text": "A gripping, tender film that stays with you.", "label": "positive"},
                {"text": "A lazy sequel without a single laugh or idea.", "label": "negative"},
            ],
        },
        "annotator": {**fields["annotator"], "model": ANNOTATOR, "sample": SAMPLE},
        "encoder": {
            **fields["encoder"],
            "model": ENCODER,
            # A hundred labels are few: smaller steps, or fewer, leave an encoder that gives one label to every text.
            "epochs": 6,
            "patience": 6,
            "learning_rate": 3e-4,
            "batch_size": 8,
            "class_weights": True,
            "max_length": 48,
        },
        "gold": f"gold/{TASK}.parquet",
        "gates": {**fields["gates"], "max_refused_files": 1, "min_gold_f1": 0.4, **gates},
        "retrain": {"weekday": weekday, "approval": approval},
        "alerts": "nlp",
    }


def lines_of(reviews: Sequence[Review]) -> list[bytes]:
    return [json.dumps({"id": review.id, "text": review.text}).encode() for review in reviews]


def gold_of(reviews: Sequence[Review]) -> pl.DataFrame:
    judged = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    splits = ["train" if number % 3 == 0 else "test" for number in range(len(reviews))]
    rows = [
        {**review._asdict(), "split": split, "annotator": "people", "labelled_at": judged}
        for review, split in zip(reviews, splits, strict=True)
    ]
    return pl.DataFrame(rows)


def of(runs: Sequence[Run], kind: str, day: Partition) -> list[Run]:
    return [run for run in runs if (run.dag, run.partition) == (f"{TASK}__{kind}", day)]


def same(left: Moment, right: Moment, table: TableName) -> bool:
    """Compare the rows of a table, whatever their order."""
    keys = [*TABLES[table].key, "partition", "run"] if table != "documents" else ["partition", "source", "place"]
    return left.tables[table].sort(keys).equals(right.tables[table].sort(keys))
