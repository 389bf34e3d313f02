"""A lake with documents, and a task whose annotator takes batch files."""

import itertools
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from llambert_etl.annotation.backlog import Backlog
from llambert_etl.lake import Lake
from llambert_etl.llm.prompts import prompt_hash, render
from llambert_etl.llm.served import ServedAnnotator
from llambert_etl.llm.spending import Spending
from llambert_etl.manifest import Manifest
from llambert_etl.partition import Partition
from llambert_etl.run import Run
from llambert_etl.settings import Price, Settings
from llambert_etl.steps.annotate import annotate
from llambert_etl.steps.batch import annotate_in_batches, read_batch, write_batch
from llambert_etl.steps.estimate import estimate
from tests.fakes.llm import ANSWER_TOKENS, PROMPT_TOKENS
from tests.fakes.provider import FakeProvider, Line
from tests.given.served import MODEL, served_task, server, write_template
from tests.unit.quality import frames

DAY = Partition(frames.DAY)
DOCUMENTS = 12
ASKED_ONCE = {f"text {number}": 1 for number in range(DOCUMENTS)}
PRICE = Price(input=30, output=60)
EACH = (PROMPT_TOKENS * PRICE.input + ANSWER_TOKENS * PRICE.output) / 1e6  # USD for a document asked about live


class BatchHouse:
    """A lake with documents, and a task whose annotator takes batch files."""

    def __init__(self, url: str, root: Path, **limits: Any) -> None:
        write_template(root)
        servers = {"fake": server(url, **limits)}
        prices = {MODEL: PRICE}
        # Each look at a claim of another run is an hour after the last.
        self.clock: Callable[[], float] = partial(next, itertools.count(0.0, 3600.0))
        self.settings = Settings(lake=str(root / "lake"), include=root, servers=servers, prices=prices)
        self.lake = Lake(self.settings.lake)
        self.lake.create_tables()
        self.task = served_task(batch=True)
        frames.put(self.lake, "documents", frames.documents(self.task, DOCUMENTS), self.task)

    def open(self, step: str, run: str = "r1", **annotator: Any) -> tuple[Backlog, ServedAnnotator]:
        task = served_task(**{"batch": True, **annotator})
        asked = ServedAnnotator.load(task, self.settings)
        hashed = prompt_hash(task, self.settings.include)
        spending = Spending.load(task, self.settings, batched=step != "estimate")
        more: dict[str, Any] = {"lake": self.lake, "prompt_hash": hashed, "spending": spending, "step": step}
        return Backlog(Run(task, DAY, run), annotator=asked, **more), asked

    def annotate(self, run: str = "r1", **annotator: Any) -> Manifest:
        return annotate_in_batches(*self.open("annotate", run, **annotator), self.settings, clock=self.clock)

    def estimate(self, probe: int, **annotator: Any) -> Manifest:
        work, asked = self.open("estimate", **annotator)
        later = Spending.load(work.task, self.settings, batched=work.task.annotator.in_batches)
        prompt = render(work.task, self.settings.include)
        return estimate(work, asked, prompt, probe=probe, later=later)

    def annotate_live(self) -> Manifest:
        task = served_task()
        annotator, hashed = ServedAnnotator.load(task, self.settings), prompt_hash(task, self.settings.include)
        return annotate(Run(task, DAY, "r1"), lake=self.lake, annotator=annotator, prompt_hash=hashed)

    def write(self, file: Path, **annotator: Any) -> Manifest:
        return write_batch(*self.open("batch write", **annotator), file)

    def read(self, file: Path) -> Manifest:
        return read_batch(*self.open("batch read"), file)

    def rows(self) -> list[dict[str, Any]]:
        return self.lake.scan("annotations", "reviews").collect().to_dicts()

    def results(self, provider: FakeProvider, file: Path) -> list[Line]:
        """Return what the provider would make of a file of requests."""
        return [provider.result(json.loads(line)) for line in file.read_bytes().splitlines()]


def right(batches: BatchHouse) -> bool:
    """Tell whether each text has the label that its own number asks for."""
    texts = {row["text_hash"]: row["text"] for row in batches.lake.scan("documents", "reviews").collect().to_dicts()}
    said = {texts[row["text_hash"]]: row["label"] for row in batches.rows()}
    return said == {f"text {n}": "negative" if n % 2 else "positive" for n in range(DOCUMENTS)}
