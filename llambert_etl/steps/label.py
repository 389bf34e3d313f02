"""Label one shard of a partition and stage the rows: nothing is visible to readers until `publish`."""

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from llambert_etl.corpus.documents import in_shard, verified
from llambert_etl.errors import ConfigError
from llambert_etl.facts import Labelled
from llambert_etl.labelling.plan import Plan, ShardNote, find_shard, read_plan, write_shard
from llambert_etl.labelling.turns import PATIENCE_SECONDS, turn
from llambert_etl.lake import Lake, collect, count, stream
from llambert_etl.manifest import Manifest
from llambert_etl.run import Run
from llambert_etl.schemas import TABLES, DocumentStatus
from llambert_etl.settings import Settings

# Documents held in memory at once: a few MB of text, and enough to sort by length.
CHUNK_ROWS = 4096

Probabilities = npt.NDArray[np.float64]


class Classifier(Protocol):
    """What labels: texts in, probabilities (n, labels) out, in the task's label order."""

    def predict(self, texts: list[str]) -> Probabilities: ...


def label(
    run: Run,
    *,
    shard: int,
    lake: Lake,
    settings: Settings,
    load: Callable[[Plan], Classifier],
    progress: Callable[[int, int], None],
    patience: float = PATIENCE_SECONDS,
) -> Manifest:
    """Stage the shard's labels; infer only texts that the plan's model version has not labelled yet.

    A shard that is staged already is left alone, whichever run has staged it; where another run is at it, wait for that
    run, or go on where it has not been heard of for `patience` seconds. `load` fetches the plan's model, and only when
    a text needs it.
    """
    plan = read_plan(lake, run.task.name, run.partition, run.name)
    if not 0 <= shard < plan.shards:
        raise ConfigError(f"shard {shard}: this plan has shards 0 to {plan.shards - 1}")

    key = f"_staging/{plan.folder}/shard-{shard}.turn"
    with turn(key, run.name, settings, done=lambda: find_shard(lake, plan, shard) is not None, patience=patience):
        if (note := find_shard(lake, plan, shard)) is None:
            made = _stage(_Shard(run, plan, shard, lake, load, progress))
            # Another run may have taken over from one that was held up: what was staged first stays.
            if (note := find_shard(lake, plan, shard)) is None:
                write_shard(lake, plan, shard, made)
                note = made
    return note.manifest


def _stage(work: "_Shard") -> ShardNote:
    plan = work.plan
    staged = work.lake.stage("labels", plan.task, plan.partition, work.tables(), name=f"shard-{work.number}")
    manifest = work.run.manifest(
        "label",
        rows={"read": work.read, "inferred": work.inferred, "reused": work.read - work.inferred},
        versions_read={"documents": plan.documents_version},
        facts=Labelled(shard=work.number, model_version=plan.model.version),
    )
    return ShardNote(staged=staged, manifest=manifest)


class _Shard:
    """The documents of one shard on their way to label rows."""

    def __init__(
        self,
        run: Run,
        plan: Plan,
        shard: int,
        lake: Lake,
        load: Callable[[Plan], Classifier],
        progress: Callable[[int, int], None],
    ) -> None:
        self.run, self.task, self.plan, self.number, self.lake = run, run.task, plan, shard, lake
        self._load, self._progress = load, progress
        accepted = pl.col("status") == DocumentStatus.ACCEPTED
        # The text decides the shard, so equal texts are inferred once.
        self._documents = lake.scan("documents", run.task.name, plan.partition, version=plan.documents_version).filter(
            accepted & in_shard(shard, plan.shards)
        )
        self._classifier: Classifier | None = None
        self._known: dict[str, list[float]] = {}
        self.read = 0
        self.inferred = 0

    def tables(self) -> Iterator[pa.Table]:
        """Yield label rows chunk by chunk; memory is a chunk of texts and the shard's probabilities."""
        total, self._known = count(self._documents), self._labelled_before()
        for chunk in stream(self._documents.select("id", "text", "text_hash"), total, CHUNK_ROWS):
            yield self._rows(verified(chunk, "documents"))
            self.read += chunk.height
            self._progress(self.read, total)

    def _labelled_before(self) -> dict[str, list[float]]:
        """Return what this model version has said of the shard's texts, in any partition."""
        same_model = (pl.col("model_name") == self.plan.model.name) & (
            pl.col("model_version") == self.plan.model.version
        )
        said = self.lake.scan("labels", self.task.name).filter(same_model).select("text_hash", "probabilities")
        mine = said.join(self._documents.select("text_hash"), on="text_hash", how="semi").unique("text_hash")
        names = self.task.label_names
        known = {}
        for text_hash, probabilities in collect(mine, engine="streaming").iter_rows():
            by_label = {entry["label"]: entry["probability"] for entry in probabilities}
            known[text_hash] = [by_label[name] for name in names]
        return known

    def _rows(self, chunk: pl.DataFrame) -> pa.Table:
        unknown = [text_hash for text_hash in chunk["text_hash"] if text_hash not in self._known]
        new = chunk.filter(pl.col("text_hash").is_in(unknown)).unique("text_hash", maintain_order=True)
        if new.height:
            self._classifier = self._classifier or self._load(self.plan)
            predicted = self._classifier.predict(new["text"].to_list())
            self._known.update(zip(new["text_hash"].to_list(), predicted.tolist(), strict=True))
            self.inferred += new.height
        names = self.task.label_names
        rows = []
        for document, text_hash in chunk.select("id", "text_hash").iter_rows():
            probabilities = self._known[text_hash]
            best = max(range(len(names)), key=probabilities.__getitem__)
            rows.append(
                {
                    "task": self.task.name,
                    "partition": str(self.plan.partition),
                    "id": document,
                    "text_hash": text_hash,
                    "label": names[best],
                    "confidence": probabilities[best],
                    "probabilities": [
                        {"label": name, "probability": value} for name, value in zip(names, probabilities, strict=True)
                    ],
                    "model_name": self.plan.model.name,
                    "model_version": self.plan.model.version,
                    "config_hash": self.task.config_hash,
                    "run": self.plan.run,
                }
            )
        return pa.Table.from_pylist(rows, schema=TABLES["labels"].schema)
