"""What a model version has said of a day's texts before: looked up once for a run, and kept beside its plan."""

import uuid

import numpy as np
import polars as pl

from llambert_etl.config import LabellingTask
from llambert_etl.corpus.documents import in_shard, shard_starts
from llambert_etl.labelling.plan import Plan, run_folder
from llambert_etl.labelling.rows import no_answers
from llambert_etl.lake import Lake, Snapshot, collect, scan_texts
from llambert_etl.schemas import DocumentStatus

# Texts that are looked up together: memory follows them.
_AT_ONCE = 1_000_000


def look_up(plan: Plan, task: LabellingTask, lake: Lake) -> Plan:
    """Return the plan with the sizes of its shards, and with what its version has said of their texts."""
    tables = lake.snapshot("labels", at={"documents": plan.documents_version})
    accepted = tables.scan("documents", plan.task, plan.partition).filter(
        pl.col("status") == DocumentStatus.ACCEPTED, pl.col("text_hash").is_not_null()
    )
    files = _labelled_by(plan, tables)
    sizes, known = np.zeros(plan.shards, dtype=np.int64), list[str]()
    starts, parts = pl.Series(shard_starts(plan.shards)[1:], dtype=pl.String), 1 + plan.documents // _AT_ONCE
    for part in range(parts):
        hashes = collect(accepted.filter(in_shard(part, parts)).select("text_hash"))["text_hash"].sort()
        ends = [*hashes.search_sorted(starts), hashes.len()]
        sizes += np.diff([0, *ends])
        said = _said(plan, task, scan_texts(lake, "labels", plan.task, files, hashes.unique()))
        if said.height:
            key = f"{run_folder(plan.task, plan.partition, plan.run)}/known-{uuid.uuid4().hex}.parquet"
            lake.write_rows(key, said)
            known.append(key)
    return plan.model_copy(update={"sizes": tuple(sizes.tolist()), "known": tuple(known)})


def known(plan: Plan, shard: int, task: LabellingTask, lake: Lake) -> pl.LazyFrame:
    """Return what is known of a shard's texts: text_hash, label, probabilities in the order of the task's labels."""
    return lake.scan_rows(plan.known).filter(plan.holds(shard)) if plan.known else no_answers(task.label_names).lazy()


def _labelled_by(plan: Plan, tables: Snapshot) -> list[str]:
    """Return the files that may hold labels of the plan's version, by what the log says of them."""
    files, version = tables.files("labels", plan.task), plan.model.version
    if "min.model_version" in files.columns:
        lowest, highest = pl.col("min.model_version"), pl.col("max.model_version")
        files = files.filter(((lowest <= version) & (highest >= version)).fill_null(True))
    return files["path"].to_list()


def _said(plan: Plan, task: LabellingTask, rows: pl.LazyFrame) -> pl.DataFrame:
    label, probability = pl.element().struct.field("label"), pl.element().struct.field("probability")
    each = [
        pl.col("probabilities").list.eval(probability.filter(label == name)).list.first() for name in task.label_names
    ]
    same_model = (pl.col("model_name") == plan.model.name) & (pl.col("model_version") == plan.model.version)
    whole = rows.filter(same_model, *(probability.is_not_null() for probability in each))
    said = whole.select("text_hash", "label", pl.concat_list(each).list.to_array(len(each)).alias("probabilities"))
    return collect(said, engine="streaming").unique("text_hash", keep="first", maintain_order=True).sort("text_hash")
