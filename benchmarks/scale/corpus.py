"""A task that both trees can read, and made-up documents of about 30 words, the same bytes each time."""

import gzip
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from llambert_etl.partition import Partition

TASK = "scale"
DAY = Partition("2026-01-05")
Format = Literal["jsonl.gz", "csv", "parquet"]

# Its models are named and never loaded.
_TASK_FILE = """\
name: scale
description: Is the review positive or negative?
owner: benchmarks
source: {{uri: "{landing}/{{partition}}/*", id: id, text: text}}
labels: {{positive: The review is positive., negative: The review is negative.}}
prompt: {{template: scale.j2}}
annotator: {{model: meta-llama/Llama-2-7b-chat-hf, revision: f5db02db724555f92da89c216ac04704f23d4590, sample: 10000}}
encoder: {{model: FacebookAI/roberta-base, revision: e2da8e2f811d1448a5b465c236feacd80ffbac7b}}
gold: gold/scale.parquet
gates: {{min_label_share: 0.1, max_drift: 0.5}}
retrain: {{weekday: sunday, or_new_documents: 50000}}
export: [parquet]
"""
_WORDS = 30
_VOCABULARY = 20_000
_ROWS = 10_000
_SCHEMA = pa.schema({"id": pa.string(), "text": pa.string()})


def world(folder: Path) -> dict[str, str]:
    """Return the environment of a lake, a state and a landing folder of their own in `folder`, with the task."""
    include, landing = folder / "include", folder / "landing"
    for path in (include / "tasks", include / "prompts", include / "gold", landing):
        path.mkdir(parents=True, exist_ok=True)
    (include / "tasks" / f"{TASK}.yaml").write_text(_TASK_FILE.format(landing=landing), encoding="utf-8")
    (include / "prompts" / f"{TASK}.j2").write_text("Review: {{ text }}\nSentiment:", encoding="utf-8")
    return {
        "LLAMBERT_LAKE": str(folder / "lake"),
        "LLAMBERT_STATE": str(folder / "state"),
        "LLAMBERT_INCLUDE": str(include),
        "LLAMBERT_SOURCES": f'["{landing}"]',
    }


def landing_file(folder: Path, rows: int, kind: Format = "jsonl.gz", day: str = DAY, first: int = 0) -> Path:
    """Write documents `first` to `first + rows` into the landing folder of a world; their ids and texts are unique."""
    path = folder / "landing" / day / f"reviews.{kind}"
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "parquet":
        with pq.ParquetWriter(path, _SCHEMA) as writer:
            for texts in _texts(first, rows):
                writer.write_table(pa.table(texts, schema=_SCHEMA))
    elif kind == "csv":
        with path.open("w", encoding="utf-8") as file:
            file.write("id,text\n")
            for texts in _texts(first, rows):
                file.writelines(f'{id},"{text}"\n' for id, text in zip(texts["id"], texts["text"], strict=True))
    else:
        with path.open("wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=3, mtime=0) as packed:
            for texts in _texts(first, rows):
                pairs = zip(texts["id"], texts["text"], strict=True)
                packed.write("".join(f'{{"id": "{id}", "text": "{text}"}}\n' for id, text in pairs).encode())
    return path


def _texts(first: int, rows: int) -> Iterator[dict[str, list[str]]]:
    words = [_word(number) for number in range(_VOCABULARY)]
    for start in range(first, first + rows, _ROWS):
        draw = random.Random(start)  # noqa: S311
        numbers = range(start, min(start + _ROWS, first + rows))
        texts = [" ".join(draw.choices(words, k=_WORDS)) for _ in numbers]
        yield {
            "id": [f"review-{number}" for number in numbers],
            "text": [f"{text} {number}" for number, text in zip(numbers, texts, strict=True)],
        }


def _word(number: int) -> str:
    """Return a word of about five letters, as those of English are long."""
    draw = random.Random(number)  # noqa: S311
    return "".join(draw.choices("etaoinshrdlucmfwyp", k=draw.randint(2, 8)))
