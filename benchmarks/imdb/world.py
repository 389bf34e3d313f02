"""The IMDb reviews of the benchmark in a lake of their own: some are gold, and the LLM has labelled the rest."""

import os
import shutil
from pathlib import Path

import polars as pl

from laptop.environment import model_paths
from laptop.stack import REPOSITORY
from llambert_etl.config import LabellingTask
from llambert_etl.config.yaml_files import read_yaml
from llambert_etl.lake import Lake
from llambert_etl.llm.annotators import open_annotator
from llambert_etl.llm.prompts import prompt_hash
from llambert_etl.partition import Partition
from llambert_etl.run import Run
from llambert_etl.settings import Settings
from llambert_etl.steps.annotate import annotate
from llambert_etl.steps.gold import import_gold
from llambert_etl.steps.ingest import ingest
from llambert_etl.studies.plan import StudyPlan
from llambert_etl.studies.subject import Subject

STATE = REPOSITORY / ".benchmarks" / "imdb"
_HERE = Path(__file__).parent
_DAY = Partition("2026-11-01")
_TESTED, _JUDGED = 4_000, 2_000  # gold rows to test on, and to learn from or to hold the LLM against


def open_subject(seeds: list[int] | None = None) -> Subject:
    """Ingest, import and annotate what was not done before; return what study.yaml, with these seeds, varies of it."""
    include, landing = STATE / "include", STATE / "drops"
    for folder in (include / "prompts", landing / _DAY):
        folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(REPOSITORY / "include" / "prompts" / "imdb_sentiment_llama2.j2", include / "prompts")
    reviews = pl.read_parquet(_corpus()).sample(fraction=1.0, shuffle=True, seed=1)
    gold, rest = reviews.head(_TESTED + _JUDGED), reviews.slice(_TESTED + _JUDGED)
    split = pl.when(pl.int_range(pl.len()) < _TESTED).then(pl.lit("test")).otherwise(pl.lit("train"))
    _write(gold.select("id", "text", label="gold", split=split), include / "gold.parquet")
    _write(reviews.select("text", "llama2_70b").unique("text", maintain_order=True), include / "replies.parquet")
    drop = landing / _DAY / "reviews.parquet"
    # With the gold to learn from among them: the LLM's errors on it are what a study of wrong labels copies.
    documents = pl.concat([gold.slice(_TESTED), rest]).select("id", "text")
    if not drop.exists():
        _write(documents, drop)
    task = read_yaml(_HERE / "task.yaml", LabellingTask)
    task = task.model_copy(update={"source": task.source.model_copy(update={"uri": f"{landing}/{{partition}}/*"})})
    models = model_paths(REPOSITORY)
    settings = Settings(
        lake=str(STATE / "lake"), include=include, state=STATE / "work", sources=[str(landing)], model_paths=models
    )
    lake = Lake.from_settings(settings)
    lake.create_tables()
    ingest(Run(task, _DAY, "benchmarks"), lake=lake, settings=settings)
    import_gold(Run(task, _DAY, "benchmarks"), include / "gold.parquet", lake=lake, settings=settings)
    hashed = prompt_hash(task, include)
    annotator = open_annotator(task, settings)
    everything = documents.height
    annotate(Run(task, _DAY, "benchmarks"), lake=lake, annotator=annotator, prompt_hash=hashed, sample=everything)
    plan = read_yaml(_HERE / "study.yaml", StudyPlan)
    if seeds:
        plan = plan.model_copy(update={"seeds": seeds})
    return Subject(run=Run(task, _DAY, "benchmarks"), plan=plan, prompt_hash=hashed, lake=lake, settings=settings)


def _write(frame: pl.DataFrame, path: Path) -> None:
    """Write a file that another process may be reading, or writing too."""
    whole = path.with_name(f".{os.getpid()}.{path.name}")
    frame.write_parquet(whole)
    whole.rename(path)


def _corpus() -> Path:
    folder = os.environ.get("LLAMBERT_BENCH_DATA")
    if folder is None:
        raise SystemExit("set LLAMBERT_BENCH_DATA to a folder with imdb/train.parquet: id, text, gold, llama2_70b")
    return Path(folder) / "imdb" / "train.parquet"
