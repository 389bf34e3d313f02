"""A task with documents, labels, annotations and gold, of which people are asked."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from llambert_etl.config import LabellingTask
from llambert_etl.corpus.documents import hash_text
from llambert_etl.lake import Lake
from llambert_etl.manifest import Manifest
from llambert_etl.partition import Partition
from llambert_etl.run import Run
from llambert_etl.schemas import TABLES, TableName
from llambert_etl.steps.review_export import Ask, export_review
from llambert_etl.steps.review_import import import_review
from tests.given.labelling import DAY, NEXT, drop
from tests.given.tasks import make_task

LATER = Partition("2026-11-12")
PROMPT = "p" * 16
Rows = list[dict[str, str]]


class Panel:
    """People who review what the encoder said. Documents are named as `tests.given.labelling.drop` names them."""

    def __init__(self, lake: Lake, root: Path, task: LabellingTask | None = None) -> None:
        self.lake, self.root, self.task = lake, root, task or make_task()

    def documents(self, labels: Mapping[str, str], day: Partition = DAY) -> None:
        """Ingest texts with the encoder's label of each."""
        drop(self.lake, self.task, list(labels), day)
        model = {"model_name": f"llambert.{self.task.name}", "model_version": 3}
        rows = [
            {"id": f"{day}-{number}", "text_hash": hash_text(text), "label": label, "confidence": 0.9, **model}
            for number, (text, label) in enumerate(labels.items())
        ]
        self.append("labels", rows, day)

    def annotated(self, labels: Mapping[str, str], day: Partition = DAY) -> None:
        asked = {"model": self.task.annotator.model, "revision": self.task.annotator.revision}
        rows = [
            {"text_hash": hash_text(text), "prompt_hash": PROMPT, **asked, "status": "labelled", "label": label}
            for text, label in labels.items()
        ]
        self.append("annotations", rows, day)

    def gold(self, labels: Mapping[str, str], split: str = "test", day: Partition = DAY) -> None:
        """Make texts gold under ids of their own, as a file does that was labelled elsewhere."""
        rows = [
            {"id": f"gold {text}", "text": text, "text_hash": hash_text(text), "label": label, "split": split}
            for text, label in labels.items()
        ]
        self.append("gold", rows, day)

    def append(self, table: TableName, rows: Sequence[Mapping[str, object]], day: Partition) -> None:
        full = [{"task": self.task.name, "partition": day, "run": "r1", **row} for row in rows]
        chunk = pa.Table.from_pylist(full, schema=TABLES[table].schema)
        manifest = Manifest(step=table, task=self.task.name, partition=day, run="r1")
        self.lake.append_once(table, self.task.name, day, chunk, manifest=manifest)

    def export(self, name: str = "review", day: Partition = DAY, run: str = "r1", **ask: Any) -> Manifest:
        return export_review(Run(self.task, day, run), self.root / name, Ask(**ask), lake=self.lake, prompt_hash=PROMPT)

    def sheet(self, name: str = "review") -> Rows:
        content = (self.root / name / "review.csv").read_bytes().decode("utf-8-sig")
        return list(csv.DictReader(io.StringIO(content, newline="")))

    def tasks(self, name: str = "review") -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads((self.root / name / "label_studio.json").read_text(encoding="utf-8"))
        return found

    def answers(self, said: Mapping[str, str], annotator: str, name: str = "review") -> Rows:
        """Return the sheet as somebody fills it in who has an answer for some texts."""
        when = "2026-11-11T09:30:00+01:00"
        return [
            {**row, "label": said[row["text"]], "annotator": annotator, "labelled_at": when}
            if row["text"] in said
            else row
            for row in self.sheet(name)
        ]

    def write(self, rows: Rows, name: str = "answers.csv", delimiter: str = ",") -> Path:
        path = self.root / name
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
            writer.writeheader()
            writer.writerows(rows)
        return path

    def imports(self, *files: Path, day: Partition = NEXT, run: str = "r2") -> Manifest:
        return import_review(Run(self.task, day, run), files, lake=self.lake)

    def answer(self, said: Mapping[str, str], annotator: str = "ada", day: Partition = NEXT) -> Manifest:
        return self.imports(self.write(self.answers(said, annotator), "answers.csv"), day=day)

    def golden(self, day: Partition | None = None) -> dict[str, tuple[str, str, str | None]]:
        """Return the label, the split and the annotator of each text, on a day or on all."""
        rows = self.lake.scan("gold", self.task.name, day).sort("partition").collect()
        return {text: tuple(rest) for text, *rest in rows.select("text", "label", "split", "annotator").iter_rows()}

    def strata(self, name: str = "review") -> dict[str, str]:
        """Return why each text of an export was chosen; the sheet itself must not say so."""
        why = dict(self.asked().select("text_hash", "stratum").iter_rows())
        return {row["text"]: why[row["text_hash"]] for row in self.sheet(name)}

    def asked(self) -> pl.DataFrame:
        return self.lake.scan("reviews", self.task.name).filter(pl.col("annotator").is_null()).collect()

    def versions(self) -> dict[str, int]:
        return {table: self.lake.version(table) for table in TABLES}
