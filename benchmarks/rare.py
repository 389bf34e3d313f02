"""Does an encoder find a label that 2 % of its rows have, with class weights and without; and what do they cost?"""

import argparse
import bz2
import io
import json
import logging
import random
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline

from benchmarks.evidence import EVIDENCE, write
from laptop.demo.__main__ import TASK
from laptop.demo.data import CORPUS
from laptop.environment import model_paths
from laptop.stack import REPOSITORY
from llambert_etl.config import find_task
from llambert_etl.encoder.inference import Encoder
from llambert_etl.encoder.metrics import evaluate
from llambert_etl.encoder.training import LabelledTexts, fine_tune
from llambert_etl.settings import Settings

_NO_ROWS = LabelledTexts((), ())
# Of a text: a plot is longer than a review. From 60 words on the encoder knows a plot without any weights.
_WORDS = 30
_ABOUT = {
    "rare": "does the text tell a film's plot (2 %), or judge the film? Nothing but the texts says which.",
    "even": "is the review fresh (57 %) or rotten?",
}
_LABELS = {"rare": ("plot", "review"), "even": ("fresh", "rotten")}
_PEER = "tf-idf and logistic regression, class_weight='balanced'"

Scores = dict[str, float | int | str]


class Draw(NamedTuple):
    train: LabelledTexts
    test: LabelledTexts


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rare", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--out", type=Path, default=EVIDENCE, help="folder of rare.json, which is added to")
    parser.add_argument("--anew", action="store_true", help="measure what rare.json has too")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    file, runs = arguments.out / "rare.json", list[Scores]()
    if file.exists() and not arguments.anew:
        runs = json.loads(file.read_text(encoding="utf-8"))["results"]["runs"]
    for kind in _ABOUT:
        for seed in arguments.seeds:
            for found in measure(kind, seed, [run["learner"] for run in runs if _of(run, kind, seed)]):
                runs.append(found)
                seeds = sorted({int(run["seed"]) for run in runs})
                write("rare", seeds=seeds, results=summary(runs), out=arguments.out)


def _of(run: Scores, kind: str, seed: int) -> bool:
    return (run["task"], run["seed"]) == (kind, seed)


def measure(kind: str, seed: int, known: Sequence[object]) -> Iterator[Scores]:
    """Yield what each learner scores that is not known yet."""
    rows, labels = draw(kind, seed), _LABELS[kind]
    engines: dict[str, Callable[[], npt.NDArray[np.float64]]] = {
        "without weights": lambda: encoder(rows, labels, seed, class_weights=False),
        "class_weights": lambda: encoder(rows, labels, seed, class_weights=True),
        _PEER: lambda: peer(rows),
    }
    for name in [name for name in engines if name not in known]:
        found = {"task": kind, "seed": seed, "learner": name, **scores(rows.test, labels, engines[name]())}
        print(found, flush=True)
        yield found


def draw(kind: str, seed: int) -> Draw:
    """Draw rows to learn from and others to test on: 800 and 2,000 of the rare task, half as many of the even one."""
    texts = _corpus()
    chance = random.Random(seed)  # noqa: S311 - a choice, not a secret
    if kind == "rare":
        pools, taught, tested = [texts["plot"], texts["fresh"] + texts["rotten"]], [16, 784], [40, 1_960]
    else:
        pools, taught, tested = [texts["fresh"], texts["rotten"]], [228, 172], [570, 430]
    train: list[tuple[str, int]] = []
    test: list[tuple[str, int]] = []
    for label, (pool, learn, ask) in enumerate(zip(pools, taught, tested, strict=True)):
        chosen = chance.sample(sorted(set(pool)), learn + ask)
        train += [(text, label) for text in chosen[:learn]]
        test += [(text, label) for text in chosen[learn:]]
    return Draw(*(LabelledTexts(*zip(*rows, strict=True)) for rows in (train, test)))


def encoder(rows: Draw, labels: tuple[str, ...], seed: int, *, class_weights: bool) -> npt.NDArray[np.float64]:
    models = model_paths(REPOSITORY)
    settings = Settings(
        lake=str(REPOSITORY / ".benchmarks" / "rare"),
        model_orgs=[model.split("/")[0] for model in models],
        model_paths=models,
    )
    given = find_task(REPOSITORY / "include", TASK).encoder
    recipe = given.model_copy(update={"seed": seed, "class_weights": class_weights, "max_length": 48})
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "encoder"
        fine_tune(recipe, labels, [rows.train], _NO_ROWS, settings, folder)
        return Encoder.load(folder).predict(rows.test.texts)


def peer(rows: Draw) -> npt.NDArray[np.float64]:
    """Return the probabilities of what one tries before any encoder, on the same rows."""
    model = make_pipeline(TfidfVectorizer(), LogisticRegression(class_weight="balanced", max_iter=1_000))
    model.fit(rows.train.texts, rows.train.labels)
    return np.asarray(model.predict_proba(rows.test.texts), dtype=np.float64)


def scores(test: LabelledTexts, labels: tuple[str, ...], probabilities: npt.NDArray[np.float64]) -> Scores:
    truth = np.asarray(test.labels)
    found = evaluate(labels, truth, probabilities)
    own = found.per_class[labels[0]]
    return {
        "f1": round(own.f1, 4),
        "precision": round(own.precision, 4),
        "recall": round(own.recall, 4),
        "macro_f1": round(found.macro_f1, 4),
        "accuracy": round(found.accuracy, 4),
        "area_under_roc": round(float(roc_auc_score(truth == 0, probabilities[:, 0])), 4),
        "ece_mass": round(found.honesty.ece_mass, 4),
        "log_loss": round(found.honesty.log_loss, 4),
    }


def summary(runs: Sequence[Scores]) -> dict[str, object]:
    learners = list(dict.fromkeys(str(run["learner"]) for run in runs))
    means = {
        kind: {
            learner: {
                name: round(statistics.mean(float(run[name]) for run in own), 4)
                for name in ("f1", "macro_f1", "accuracy", "area_under_roc")
            }
            for learner in learners
            if (own := [run for run in runs if (run["task"], run["learner"]) == (kind, learner)])
        }
        for kind in _ABOUT
    }
    return {
        "tasks": _ABOUT,
        "f1_is_of": {kind: names[0] for kind, names in _LABELS.items()},
        "means": means,
        "runs": list(runs),
    }


def _corpus() -> dict[str, list[str]]:
    """Return the texts of each kind, cut to the same number of words."""
    content = bz2.decompress((REPOSITORY / ".models" / CORPUS).read_bytes())
    rows = pl.read_csv(io.BytesIO(content)).select("category", "text").drop_nulls()
    cut = [(category, " ".join(text.split()[:_WORDS])) for category, text in rows.iter_rows()]
    return {kind: [text for category, text in cut if category == kind] for kind in ("plot", "fresh", "rotten")}


if __name__ == "__main__":
    main()
