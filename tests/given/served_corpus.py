"""A corpus in a local lake, annotated by the fake LLM: in process, or by the command."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from laptop.environment import variables
from laptop.host import server_environment
from llambert_etl.config import LabellingTask
from llambert_etl.lake import Lake
from llambert_etl.llm.annotators import open_annotator
from llambert_etl.llm.prompts import prompt_hash
from llambert_etl.llm.spending import Spending
from llambert_etl.manifest import Manifest
from llambert_etl.partition import Partition
from llambert_etl.run import Run
from llambert_etl.settings import Price, Settings
from llambert_etl.steps.annotate import annotate
from tests.fakes.llm import FakeLlm
from tests.given.served import MODEL, served_fields, served_task, server, write_template
from tests.unit.quality import frames

DAY = Partition(frames.DAY)
DOCUMENTS, BATCH = 40, 8
ASKED_ONCE = {f"text {number}": 1 for number in range(DOCUMENTS)}
PRICE = Price(input=30.0, output=60.0)


def settings(llm: FakeLlm, root: Path, concurrency: int = BATCH // 4) -> Settings:
    write_template(root)
    return Settings(
        lake=str(root / "lake"),
        include=root,
        state=root / "state",
        servers={"fake": server(llm.url, concurrency=concurrency)},
        prices={MODEL: PRICE},
    )


def corpus_of(here: Settings, documents: int = DOCUMENTS) -> Lake:
    lake = Lake.from_settings(here)
    lake.create_tables()
    frames.put(lake, "documents", frames.documents(served_task(), documents), served_task())
    return lake


def run_annotate(lake: Lake, here: Settings, task: LabellingTask, run: str = "r1") -> Manifest:
    return annotate(
        Run(task, DAY, run),
        lake=lake,
        annotator=open_annotator(task, here),
        prompt_hash=prompt_hash(task, here.include),
        spending=Spending.load(task, here),
    )


def rows(lake: Lake) -> list[dict[str, Any]]:
    return lake.scan("annotations", "reviews").collect().to_dicts()


def start(here: Settings, **annotator: Any) -> "subprocess.Popen[str]":
    (here.include / "tasks").mkdir(exist_ok=True)
    (here.include / "tasks" / "reviews.yaml").write_text(yaml.safe_dump(served_fields(**annotator), sort_keys=False))
    return subprocess.Popen(
        [sys.executable, "-c", "from llambert_etl.cli import main; main()"]
        + ["annotate", "--task", "reviews", "--partition", DAY],
        env={**server_environment(), **variables(here)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
