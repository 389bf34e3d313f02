"""Run the studies of benchmarks/imdb/study.yaml and keep their tables, plots and figures in docs/evidence/imdb."""

import argparse
import json
import logging
import os
import shutil
from pathlib import Path
from typing import NamedTuple

import polars as pl

from benchmarks.evidence import EVIDENCE, commit, machine, write
from llambert_etl.cli.outcome import progress
from llambert_etl.config import LabellingTask, StudyKind
from llambert_etl.config.yaml_files import read_yaml
from llambert_etl.lake import Lake
from llambert_etl.llm.annotators import open_annotator
from llambert_etl.llm.prompts import prompt_hash
from llambert_etl.partition import Partition
from llambert_etl.settings import Settings
from llambert_etl.stack.environment import model_paths
from llambert_etl.stack.stack import REPOSITORY
from llambert_etl.steps.annotate import annotate
from llambert_etl.steps.gold import import_gold
from llambert_etl.steps.ingest import ingest
from llambert_etl.steps.study import study
from llambert_etl.studies.plan import StudyPlan
from llambert_etl.studies.subject import Subject

_HERE = Path(__file__).parent
_STATE = REPOSITORY / ".benchmarks" / "imdb"
_POINTS = _STATE / "lake" / "_studies" / "imdb"
_DAY = Partition("2026-11-01")
_TESTED, _JUDGED = 4_000, 2_000  # gold rows to test on, and to learn from or to hold the LLM against
_STUDIES: tuple[StudyKind, ...] = ("strategies", "size", "mislabelling")


class World(NamedTuple):
    task: LabellingTask
    settings: Settings
    lake: Lake


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.imdb", description=__doc__)
    parser.add_argument("studies", nargs="*", default=_STUDIES, help=f"of {', '.join(_STUDIES)}")
    parser.add_argument("--out", type=Path, default=EVIDENCE / "imdb")
    parser.add_argument("--anew", action="store_true", help="measure again what points.json in that folder has")
    arguments = parser.parse_args()
    if unknown := set(arguments.studies) - set(_STUDIES):
        parser.error(f"no such studies: {', '.join(sorted(unknown))}; there are {', '.join(_STUDIES)}")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M")
    world, plan = open_world(_corpus()), read_yaml(_HERE / "study.yaml", StudyPlan)
    points = arguments.out / "points.json"
    if arguments.anew:
        shutil.rmtree(_POINTS, ignore_errors=True)
    else:
        _recall(points)
    subject = Subject(
        task=world.task,
        partition=_DAY,
        run="benchmarks",
        plan=plan,
        prompt_hash=prompt_hash(world.task, world.settings.include),
        lake=world.lake,
        settings=world.settings,
    )
    for kind in arguments.studies:
        out = arguments.out / kind
        try:
            done = study(kind, subject, registry=None, out=out, progress=progress(f"study {kind}"))
        finally:
            _keep(points)
        study_file = out / "study.json"
        results = json.loads(study_file.read_text(encoding="utf-8"))
        study_file.unlink()
        command = f"LLAMBERT_BENCH_DATA=FOLDER python -m benchmarks.imdb {kind}"
        write(f"imdb/{kind}", seeds=plan.seeds, results=results, out=arguments.out.parent, command=command)
        print(done.model_dump_json(indent=2), flush=True)


def _recall(points: Path) -> None:
    """Put points into the lake that were measured on another day, or on another machine."""
    _POINTS.mkdir(parents=True, exist_ok=True)
    for key, kept in _read(points).items():
        if not (_POINTS / key).exists():
            (_POINTS / key).write_text(json.dumps(kept["measured"]), encoding="utf-8")


def _keep(points: Path) -> None:
    """Write down the measured points, each with the commit and the machine that were the first to keep it."""
    known, here = _read(points), {"commit": commit(), "machine": machine()}
    for path in sorted(_POINTS.glob("*.json")):
        known.setdefault(path.name, {"measured": json.loads(path.read_text(encoding="utf-8")), **here})
    points.parent.mkdir(parents=True, exist_ok=True)
    points.write_text(json.dumps(dict(sorted(known.items())), indent=1) + "\n", encoding="utf-8")


def _read(points: Path) -> dict[str, dict[str, object]]:
    return json.loads(points.read_text(encoding="utf-8")) if points.exists() else {}


def _corpus() -> Path:
    folder = os.environ.get("LLAMBERT_BENCH_DATA")
    if folder is None:
        raise SystemExit("set LLAMBERT_BENCH_DATA to a folder with imdb/train.parquet: id, text, gold, llama2_70b")
    return Path(folder) / "imdb" / "train.parquet"


def open_world(corpus: Path) -> World:
    """Ingest, import and annotate what was not done before."""
    include, landing = _STATE / "include", _STATE / "drops"
    for folder in (include / "prompts", landing / _DAY):
        folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(REPOSITORY / "include" / "prompts" / "imdb_sentiment_llama2.j2", include / "prompts")
    reviews = pl.read_parquet(corpus).sample(fraction=1.0, shuffle=True, seed=1)
    gold, rest = reviews.head(_TESTED + _JUDGED), reviews.slice(_TESTED + _JUDGED)
    split = pl.when(pl.int_range(pl.len()) < _TESTED).then(pl.lit("test")).otherwise(pl.lit("train"))
    gold.select("id", "text", label="gold", split=split).write_parquet(include / "gold.parquet")
    replies = reviews.select("text", "llama2_70b").unique("text", maintain_order=True)
    replies.write_parquet(include / "replies.parquet")
    drop = landing / _DAY / "reviews.parquet"
    # With the gold to learn from among them: the LLM's errors on it are what a study of wrong labels copies.
    documents = pl.concat([gold.slice(_TESTED), rest]).select("id", "text")
    if not drop.exists():
        documents.write_parquet(drop)
    task = read_yaml(_HERE / "task.yaml", LabellingTask)
    task = task.model_copy(update={"source": task.source.model_copy(update={"uri": f"{landing}/{{partition}}/*"})})
    models = model_paths(REPOSITORY)
    settings = Settings(
        lake=str(_STATE / "lake"), include=include, state=_STATE / "work", sources=[str(landing)], model_paths=models
    )
    lake = Lake.from_settings(settings)
    lake.create_tables()
    ingest(task, _DAY, run="benchmarks", lake=lake, settings=settings)
    import_gold(task, include / "gold.parquet", _DAY, run="benchmarks", lake=lake, settings=settings)
    annotate(
        task,
        _DAY,
        run="benchmarks",
        lake=lake,
        annotator=open_annotator(task, settings),
        prompt_hash=prompt_hash(task, include),
        sample=documents.height,
    )
    return World(task, settings, lake)


if __name__ == "__main__":
    main()
