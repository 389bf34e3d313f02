"""Export a review: choose documents for people to look at, note what they are asked, and write their files."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import polars as pl
import pyarrow as pa

from llambert_etl.config import LabellingTask
from llambert_etl.corpus.answers import labelled_answers
from llambert_etl.corpus.documents import as_of
from llambert_etl.corpus.forgotten import refuse_rows
from llambert_etl.corpus.gold import known_gold
from llambert_etl.corpus.sampling import sample_of
from llambert_etl.errors import DataError
from llambert_etl.lake import Lake, Snapshot, collect
from llambert_etl.manifest import Manifest
from llambert_etl.partition import Partition
from llambert_etl.reviews.files import Sheet, label_studio_config, label_studio_tasks, new_folder, table
from llambert_etl.reviews.reviewed import Stratum, reviewed_as_of
from llambert_etl.run import Run
from llambert_etl.schemas import TABLES

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ask:
    """What is asked: at most `size` documents of each stratum, each of `annotators` people."""

    size: int = 100
    seed: int = 42
    strata: Sequence[Stratum] = tuple(Stratum)
    annotators: int = 1
    suggest: bool = False


def export_review(run: Run, folder: Path, ask: Ask, *, lake: Lake, prompt_hash: str) -> Manifest:
    """Write the files of a review into a new folder; the same tables and seed give the same files.

    A document is asked about once, and errors and disagreements that people have looked at before are left out. The
    random share is drawn first and from everything, or it would not say how often the labels are right. Its draw is not
    the one that chose what the LLM annotates. Cut off anywhere, the same call finishes it.
    """
    task, partition = run.task, run.partition
    tables = lake.snapshot("documents", "annotations", "gold", "labels", "reviews")
    chosen = _chosen(task, partition, ask, tables, prompt_hash)
    if chosen.is_empty():
        raise DataError(
            f"review {task.name} {partition}: nothing to look at in {[str(each) for each in ask.strata]}; "
            "label documents first, or import gold"
        )
    counts = {stratum.value: chosen.filter(pl.col("stratum") == stratum.value).height for stratum in ask.strata}
    manifest = run.manifest(
        "review export",
        rows={"read": chosen.height, **counts},
        versions_read=tables.versions,
        facts={"seed": ask.seed, "size": ask.size, "annotators": ask.annotators, "blind": not ask.suggest},
    )
    questions = _questions(chosen, run, ask.annotators)
    sheets = [_sheet(row, ask.suggest) for row in chosen.iter_rows(named=True)]
    files = {
        "review.csv": table(sheets),
        "label_studio.json": label_studio_tasks(sheets),
        "label_studio.xml": label_studio_config(task),
    }
    # What is asked is noted before anybody can be asked: a file of questions that nobody knows could not be imported.
    # But only once the files have a place: questions that nobody gets to see would count as asked.
    with new_folder(folder, files) as finish:
        still = partial(refuse_rows, "reviews", task.name, partition, chosen["id"].to_list(), lake)
        commit = lake.append_once("reviews", task.name, partition, questions, manifest=manifest, still=still)
        manifest = run.finished(manifest, versions_written={"reviews": commit.version})
        finish(manifest.model_dump_json(indent=2))
    logger.info("review %s %s: %s documents written to %s", task.name, partition, chosen.height, folder)
    return manifest


def _chosen(task: LabellingTask, partition: Partition, ask: Ask, lake: Snapshot, prompt_hash: str) -> pl.DataFrame:
    """Return the documents in an order that says nothing of their strata."""
    labelled = _labelled(task, partition, lake)
    gold = known_gold(task, lake, partition).unique("text_hash", keep="first", maintain_order=True)
    said = labelled.join(gold.lazy().select("text_hash", gold="label"), on="text_hash", how="left")
    said = said.join(_annotated(task, lake, prompt_hash), on="text_hash", how="left")
    seen = [key.text_hash for key, each in reviewed_as_of(lake, task.name, partition).items() if each.answers]
    pools = {
        Stratum.RANDOM: said,
        Stratum.ERRORS: said.filter(pl.col("label") != pl.col("gold")),
        # Where there is gold, it is the judge.
        Stratum.DISAGREEMENTS: said.filter(pl.col("label") != pl.col("annotation"), pl.col("gold").is_null()),
    }
    drawn: list[pl.DataFrame] = []
    for stratum, pool in pools.items():
        if stratum not in ask.strata:
            continue
        if stratum != Stratum.RANDOM:
            pool = pool.filter(~pl.col("text_hash").is_in(seen))
        rows = sample_of(pool, ask.size, f"review:{partition}:{ask.seed}")
        facts = collect(pool.join(rows.lazy().select("id"), on="id", how="semi").drop("text", "partition"))
        drawn.append(
            rows.drop("partition").join(facts, on=["id", "text_hash"]).with_columns(stratum=pl.lit(stratum.value))
        )
        seen += rows["text_hash"].to_list()
    return pl.concat(drawn).sort("text_hash")


def _labelled(task: LabellingTask, partition: Partition, lake: Snapshot) -> pl.LazyFrame:
    """Return the documents as of the partition whose very text has a label."""
    labels = lake.scan("labels", task.name, upto=partition)
    columns = ["id", "partition", "text_hash", "label", "model_name", "model_version"]
    return as_of(lake, task.name, partition).join(labels.select(columns), on=columns[:3])


def _annotated(task: LabellingTask, lake: Snapshot, prompt_hash: str) -> pl.LazyFrame:
    return labelled_answers(task, lake, prompt_hash).select("text_hash", annotation="label")


def _questions(chosen: pl.DataFrame, run: Run, annotators: int) -> pa.Table:
    fixed = {"task": run.task.name, "partition": str(run.partition), "run": run.name, "annotators": annotators}
    names = TABLES["reviews"].schema.names
    rows = [{**dict.fromkeys(names), **row, **fixed} for row in chosen.drop("text").iter_rows(named=True)]
    return pa.Table.from_pylist(rows, schema=TABLES["reviews"].schema)


def _sheet(row: dict[str, str], suggest: bool) -> Sheet:
    model = f"{row['model_name']} version {row['model_version']}"
    return Sheet(row["id"], row["text"], row["text_hash"], row["label"] if suggest else None, model)
