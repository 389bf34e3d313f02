"""Label one shard of a partition and stage the rows: nothing is visible to readers until `publish`."""

from collections.abc import Callable, Iterator
from typing import Protocol

import polars as pl
import pyarrow as pa

from llambert_etl.corpus.documents import verified
from llambert_etl.errors import ConfigError
from llambert_etl.facts import Labelled
from llambert_etl.labelling.known import known
from llambert_etl.labelling.plan import Plan, ShardNote, find_shard, read_plan, write_shard
from llambert_etl.labelling.rows import Probabilities, answers, common_columns, label_rows, no_answers
from llambert_etl.labelling.turns import PATIENCE_SECONDS, turn
from llambert_etl.lake import Lake, collect, count, stream
from llambert_etl.manifest import Manifest
from llambert_etl.run import Run
from llambert_etl.schemas import DocumentStatus
from llambert_etl.settings import Settings

# Documents held in memory at once: a row group, a few MB of text, and enough to sort by length.
CHUNK_ROWS = 8192


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
        self._documents = lake.scan("documents", run.task.name, plan.partition, version=plan.documents_version).filter(
            pl.col("status") == DocumentStatus.ACCEPTED, plan.holds(shard)
        )
        self._classifier: Classifier | None = None
        self._inferred = no_answers(run.task.label_names)
        self.read = 0
        self.inferred = 0

    def tables(self) -> Iterator[pa.Table]:
        """Yield label rows chunk by chunk; memory is a chunk of texts, and answers that more than one row needs."""
        total = self.plan.sizes[self.number] if self.plan.sizes else count(self._documents)
        several = self._documents.group_by("text_hash").len().filter(pl.col("len") > 1)
        again = collect(several, engine="streaming")["text_hash"].implode()
        said, same = known(self.plan, self.number, self.task, self.lake), common_columns(self.plan, self.task)
        rows = self._documents.select("id", "text", "text_hash").join(
            said, on="text_hash", how="left", maintain_order="left"
        )
        for chunk in stream(rows, total, CHUNK_ROWS):
            yield label_rows(self._answered(verified(chunk, "documents")), same, self.task.label_names)
            self._inferred = self._inferred.filter(pl.col("text_hash").is_in(again))
            self.read += chunk.height
            self._progress(self.read, total)

    def _answered(self, chunk: pl.DataFrame) -> pl.DataFrame:
        """Return the chunk with every text's label and probabilities; infer those that nothing has been said of."""
        unknown = chunk.lazy().filter(pl.col("label").is_null()).unique("text_hash", keep="first", maintain_order=True)
        new = collect(unknown.join(self._inferred.lazy(), on="text_hash", how="anti", maintain_order="left"))
        if new.height:
            self._classifier = self._classifier or self._load(self.plan)
            predicted = self._classifier.predict(new["text"].to_list())
            self._inferred.extend(answers(new["text_hash"], predicted, self.task.label_names))
            self.inferred += new.height
        found = chunk.lazy().join(self._inferred.lazy(), on="text_hash", how="left", maintain_order="left")
        both = [pl.coalesce(name, f"{name}_right").alias(name) for name in ("label", "probabilities")]
        return collect(found.select("id", "text_hash", *both))
