"""A backfill of many days, newest first and several at once, leaves what the days in their order would have left."""

import datetime
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from llambert_etl.errors import TransientError
from llambert_etl.labelling.plan import merge, read_shards, record_check
from llambert_etl.partition import Partition
from llambert_etl.run import Run
from llambert_etl.schemas import TableName
from llambert_etl.steps.plan import plan
from llambert_etl.steps.publish import publish
from tests.given.labelling import Parity, Shelf, run_shards
from tests.given.landing import Landing
from tests.given.poison import jsonl

DAYS = [Partition((datetime.date(2026, 10, 1) + datetime.timedelta(days=number)).isoformat()) for number in range(30)]
AT_ONCE = 4
TRIES = 20


class Month(Landing):
    """Thirty drops. Each day has documents of its own, one that comes every day with another text, and a bad row."""

    def __init__(self, root: Path) -> None:
        root.mkdir()
        super().__init__(root)
        self.shelf = Shelf(self.task, 1)
        for number, day in enumerate(DAYS):
            own = [{"id": f"{day}-{row}", "text": f"said on {day}, {row}"} for row in range(number % 4)]
            self.drop("a.jsonl", jsonl(*own, {"id": "daily", "text": f"what {day} brought"}, {"id": "bad"}), day)

    def night(self, day: Partition) -> None:
        """Do what the Dags do for a day, and try again where they would."""
        for _ in range(TRIES):
            try:
                self.ingest(day, run=f"ingest-{day}")
                self.label(day, f"label-{day}")
                return
            except TransientError:
                continue
        pytest.fail(f"{day}: {TRIES} tries in a row lost")

    def label(self, day: Partition, run: str) -> None:
        """Label without the gate, which takes longer than all the rest and holds no day against another here."""
        registry: Any = self.shelf
        plan(Run(self.task, day, run), lake=self.lake, registry=registry, settings=self.settings)
        planned = run_shards(self.lake, self.task, self.settings, day, run, Parity(len(self.task.labels)))
        record_check(self.lake, planned, merge(planned, read_shards(self.lake, planned)))
        publish(Run(self.task, day, run), lake=self.lake)

    def rows(self, table: TableName) -> pl.DataFrame:  # type: ignore[override]
        """Return what does not name the folder that this month lies in."""
        rows = self.lake.scan(table, self.task.name).collect().sort("partition", "id", nulls_last=True)
        return rows.drop("source", "config_hash", strict=False)


def test_thirty_days_newest_first_and_four_at_once_are_those_of_their_order(tmp_path: Path) -> None:
    in_order, backfilled = Month(tmp_path / "in_order"), Month(tmp_path / "backfilled")
    for day in DAYS:
        in_order.night(day)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(backfilled.night, reversed(DAYS)))
    tables: tuple[TableName, ...] = ("documents", "labels")
    for table in tables:
        assert backfilled.rows(table).equals(in_order.rows(table))
    assert backfilled.lake.partitions("labels", backfilled.task.name) == DAYS
