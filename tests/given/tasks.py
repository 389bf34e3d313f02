"""Labelling tasks for tests: two labels and three, for nothing may assume two."""

from typing import Any

from llambert_etl.config import LabellingTask

REVISION = "0" * 40


def task_fields(name: str = "reviews", labels: tuple[str, ...] = ("positive", "negative")) -> dict[str, Any]:
    """Return the fields of a valid task file."""
    return {
        "name": name,
        "description": "Is the review positive?",
        "owner": "tests",
        "source": {"uri": f"s3://landing/{name}/{{partition}}/*", "id": "id", "text": "text"},
        "labels": {label: f"The review is {label}." for label in labels},
        "prompt": {
            "template": "movie_sentiment.j2",
            "examples": [{"text": f"An example of {label}.", "label": label} for label in labels],
        },
        "annotator": {"model": "tests/tiny-llama", "revision": REVISION, "sample": 100},
        "encoder": {"model": "tests/tiny-bert", "revision": REVISION, "epochs": 1, "max_length": 32},
        "gates": {"min_gold_f1": 0.0, "min_label_share": 0.05, "max_drift": 1.0},
    }


def make_task(**overrides: Any) -> LabellingTask:
    """Return a two-label task; a dict in `overrides` is merged into that part of the file."""
    return _build(task_fields(), overrides)


def three_label_task(**overrides: Any) -> LabellingTask:
    return _build(task_fields("topics", ("sports", "business", "science")), overrides)


def _build(fields: dict[str, Any], overrides: dict[str, Any]) -> LabellingTask:
    for name, value in overrides.items():
        merge = isinstance(value, dict) and name != "labels" and isinstance(fields.get(name), dict)
        fields[name] = {**fields[name], **value} if merge else value
    return LabellingTask.model_validate(fields)
