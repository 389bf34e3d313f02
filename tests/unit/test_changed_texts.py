"""Texts that were changed in the files of a table: nobody is asked about them, nothing learns from or labels them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from llambert_etl.corpus.documents import hash_text
from llambert_etl.corpus.gold import known_gold
from llambert_etl.corpus.sampling import sample
from llambert_etl.errors import DataError
from llambert_etl.lake import Lake
from llambert_etl.run import Run
from llambert_etl.settings import Settings
from llambert_etl.steps.plan import plan
from tests.given.labelling import DAY, Parity, Shelf, run_shards
from tests.given.tasks import make_task
from tests.unit.quality.frames import put


def test_a_text_that_is_not_its_hash_is_refused_wherever_it_is_read(tmp_path: Path) -> None:
    task, lake = make_task(), Lake(str(tmp_path / "lake"))
    settings = Settings(lake=lake.uri, include=tmp_path, state=tmp_path)
    lake.create_tables()
    changed = {"task": task.name, "id": "d1", "text": "CANARY", "text_hash": hash_text("as it was")}
    put(lake, "documents", [{**changed, "status": "accepted"}], task)
    put(lake, "gold", [{**changed, "split": "test", "label": "positive"}], task)
    plan(Run(task, DAY, "r1"), lake=lake, registry=Shelf(task, 1), settings=settings)  # type: ignore[arg-type]
    uses: list[Callable[[], object]] = [
        lambda: sample(lake, task.name, DAY, 5, 1),
        lambda: known_gold(task, lake, DAY),
        lambda: run_shards(lake, task, settings, DAY, "r1", Parity(2)),
    ]
    for use in uses:
        with pytest.raises(
            DataError, match="1 of 1 texts are not what their text_hash says, such as that of 'd1'"
        ) as error:
            use()
        assert "CANARY" not in str(error.value)
