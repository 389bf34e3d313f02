"""Run the studies of benchmarks/imdb/study.yaml and keep their tables, plots and figures in docs/evidence/imdb."""

import argparse
import json
import logging
import shutil
from pathlib import Path

from benchmarks.evidence import EVIDENCE, commit, machine, write
from benchmarks.imdb.world import STATE, open_subject
from llambert_etl.cli.outcome import progress
from llambert_etl.config import StudyKind
from llambert_etl.steps.study import study

_POINTS = STATE / "lake" / "_studies" / "imdb"
_STUDIES: tuple[StudyKind, ...] = ("strategies", "size", "mislabelling")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.imdb", description=__doc__)
    parser.add_argument("studies", nargs="*", default=_STUDIES, help=f"of {', '.join(_STUDIES)}")
    parser.add_argument("--seeds", type=int, nargs="+", help="(default: those of study.yaml)")
    parser.add_argument("--out", type=Path, default=EVIDENCE / "imdb")
    parser.add_argument("--anew", action="store_true", help="measure again what points.json in that folder has")
    arguments = parser.parse_args()
    if unknown := set(arguments.studies) - set(_STUDIES):
        parser.error(f"no such studies: {', '.join(sorted(unknown))}; there are {', '.join(_STUDIES)}")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M")
    subject = open_subject(arguments.seeds)
    points = arguments.out / "points.json"
    if arguments.anew:
        shutil.rmtree(_POINTS, ignore_errors=True)
    else:
        _recall(points)
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
        write(kind, seeds=subject.plan.seeds, results=results, out=arguments.out, command=command)
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


if __name__ == "__main__":
    main()
