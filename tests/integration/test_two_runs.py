"""Two runs of `annotate` at once, each a process: one answer for each text, and neither pays the other's batches."""

from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from llambert_etl.lake import Lake
from llambert_etl.llm.annotators import open_annotator
from llambert_etl.llm.prompts import prompt_hash
from llambert_etl.llm.spending import Spending
from llambert_etl.partition import Partition
from llambert_etl.run import Run
from llambert_etl.settings import Settings
from llambert_etl.steps.annotate import annotate
from llambert_etl.steps.check import check_annotations
from tests.fakes.llm import ANSWER_TOKENS, PROMPT_TOKENS, FakeLlm, by_number, chat_answer
from tests.fakes.server import Answer
from tests.given.served import served_task, server, write_template
from tests.processes.children import Child, race
from tests.unit.quality import frames

DAY = Partition(frames.DAY)
DOCUMENTS, CONCURRENCY = 60, 2


def annotating(url: str, root: str, run: str) -> Generator[None, None, dict[str, Any]]:
    here = Settings(lake=f"{root}/lake", include=Path(root), servers={"fake": server(url, concurrency=CONCURRENCY)})
    task = served_task()
    more = {"annotator": open_annotator(task, here), "prompt_hash": prompt_hash(task, here.include)}
    yield
    done = annotate(Run(task, DAY, run), lake=Lake(here.lake), spending=Spending.load(task, here), **more)
    return {"rows": done.rows, "tokens": done.tokens, "vain": done.facts.get("asked_in_vain", 0)}


@pytest.mark.parametrize("runs", [("r1", "r2"), ("r1", "r1")], ids=["two runs", "a zombie and its retry"])
def test_a_second_answer_without_a_label_changes_nothing(llm: FakeLlm, tmp_path: Path, runs: tuple[str, str]) -> None:
    write_template(tmp_path)
    lake = Lake(str(tmp_path / "lake"))
    lake.create_tables()
    task = served_task(sample=DOCUMENTS)
    frames.put(lake, "documents", frames.documents(task, DOCUMENTS), task)

    def together(text: str, nth: int) -> Answer | None:
        """Hold the first requests until both are at work."""
        if llm.answered.total() == 0:
            llm.wait_for(asked=2 * CONCURRENCY)
        return None

    llm.fault = together
    llm.say = lambda text: chat_answer(by_number(text) if llm.answered[text] == 1 else "Mixed")
    with (
        Child(annotating, llm.url, str(tmp_path), runs[0]) as one,
        Child(annotating, llm.url, str(tmp_path), runs[1]) as two,
    ):
        done = race([one, two])
    rows = lake.scan("annotations", task.name).collect()
    assert rows.height == rows["text_hash"].n_unique() == DOCUMENTS
    assert Counter(map(type, done)) == {dict: 2}, (one.errors(), two.errors())
    for each in done:
        assert each["rows"]["read"] == DOCUMENTS
    # Each text is the answer of one of them, and what was paid twice is told by the one that came second.
    statuses = Counter(rows["status"].to_list())
    assert {status: sum(each["rows"][status] for each in done) for status in ("labelled", "unparsed")} == {
        "labelled": statuses["labelled"],
        "unparsed": statuses["unparsed"],
    }
    assert llm.answered.total() == DOCUMENTS + sum(each["vain"] for each in done)
    assert sum(each["tokens"] for each in done) == llm.answered.total() * (PROMPT_TOKENS + ANSWER_TOKENS)
    assert 0 < sum(each["vain"] for each in done) < DOCUMENTS
    wide = task.model_copy(
        update={"gates": task.gates.model_copy(update={"max_unparsed": 1.0, "min_label_share": 0.0})}
    )
    more: dict[str, Any] = {"lake": lake, "prompt_hash": prompt_hash(task, tmp_path)}
    assert check_annotations(Run(wide, DAY, "r3"), **more).rows["read"] == DOCUMENTS
