"""A task file as it was written once keeps its hash: with another, scheduler and worker of two releases are at odds."""

from typing import Any

import pytest

from llambert_etl.config import LabellingTask, load_tasks
from tests.given.served import served_fields
from tests.given.tasks import REVISION, task_fields
from tests.unit.test_config import INCLUDE

HUB = {"model": "tests/tiny-llama", "revision": REVISION, "sample": 100}
WRITTEN = {**HUB, "method": "generate"}
RECORDED = {**WRITTEN, "recorded": {"file": "replies/reviews.parquet", "reply": "answer"}}
TABLE = {"connection": "crm", "table": "sales.reviews", "day": "written", "id": "review", "text": "body"}
WAREHOUSE = {"connection": "warehouse", "table": "labels"}


@pytest.mark.parametrize(
    ("name", "config_hash"),
    [
        ("imdb_sentiment", "db82446d0ee952ac"),
        ("movie_sentiment", "e5f08af5111939d9"),
        ("umls_anatomy", "afc987c08e623654"),
    ],
)
def test_a_shipped_task_file_keeps_its_hash(name: str, config_hash: str) -> None:
    assert load_tasks(INCLUDE).tasks[name].config_hash == config_hash


@pytest.mark.parametrize(
    ("fields", "config_hash"),
    [
        ({}, "f2d9713b05298ce5"),
        ({"annotator": WRITTEN}, "f08796952a2ad4a2"),
        (
            {
                "annotator": {
                    **WRITTEN,
                    "quantization": "nf4",
                    "parse": "exact",
                    "budget": {"tokens": 5},
                    "extra": 7,
                    "seed": 1,
                }
            },
            "ae5165d87d1de5ca",
        ),
        (
            {"annotator": {**HUB, "server": None, "recorded": None, "leave_out": [], "batch": False, "budget": None}},
            "f2d9713b05298ce5",
        ),
        ({"annotator": RECORDED}, "d6cbfbe39be8f6ec"),
        ({"annotator": {**RECORDED, "server": None, "batch": False, "quantization": "int8"}}, "27f1b17de65dfd5a"),
        (served_fields(), "bec158c04e669174"),
        (
            served_fields(leave_out=["seed", "logprobs"], batch=True, budget={"usd": 20}, revision="2024-05-13"),
            "857d47b3044dfa5b",
        ),
        (served_fields(quantization="nf4", recorded=None, max_new_tokens=50), "d0333be9f20bd308"),
        ({"source": TABLE}, "b44e157c34a22aa8"),
        ({"source": {**TABLE, "max_chars": 5000}}, "bf214f5d235fad2d"),
        (
            {"source": {"uri": "/data/{partition}/*.csv", "id": "key", "text": "body", "max_chars": 10}},
            "26c3743888aa0253",
        ),
        ({"export": "none"}, "f2d9713b05298ce5"),
        ({"export": "parquet"}, "6db2491eee8147ec"),
        ({"export": WAREHOUSE}, "063fdacec540e519"),
        ({"export": ["parquet", WAREHOUSE, {**WAREHOUSE, "table": "marts.labels"}]}, "83a463a5199dbacd"),
        (
            {
                "gold": "gold/reviews.csv",
                "alerts": "nlp",
                "retrain": {"approval": True},
                "gates": {"min_label_f1": 0.5},
            },
            "13a9214155e7b578",
        ),
    ],
)
def test_a_task_file_of_each_kind_keeps_its_hash(fields: dict[str, Any], config_hash: str) -> None:
    task = LabellingTask.model_validate({**task_fields(), **fields})
    assert task.config_hash == config_hash
    assert LabellingTask.model_validate(task.model_dump(mode="json")) == task
