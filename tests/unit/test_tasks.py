"""Task files from the command line: written, looked at, and told of what is wrong in them or cannot run here."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from llambert_etl.cli import run
from llambert_etl.config import find_task
from llambert_etl.lake import Lake
from llambert_etl.partition import Partition
from llambert_etl.run import Run
from llambert_etl.settings import load_settings
from llambert_etl.steps.ingest import ingest
from tests.given.served import served_fields, write_template
from tests.given.tasks import REVISION, task_fields

SHIPPED = Path(__file__).parents[2] / "include"


@pytest.fixture
def include(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the shipped prompts and no tasks, in a deployment that allows models of `tests`."""
    shutil.copytree(SHIPPED / "prompts", tmp_path / "prompts")
    write_template(tmp_path)
    (tmp_path / "tasks").mkdir()
    monkeypatch.setenv("LLAMBERT_LAKE", str(tmp_path / "lake"))
    monkeypatch.setenv("LLAMBERT_INCLUDE", str(tmp_path))
    monkeypatch.setenv("LLAMBERT_SOURCES", json.dumps(["s3://landing/", f"{tmp_path}/landing/"]))
    monkeypatch.setenv("LLAMBERT_MODEL_ORGS", '["tests", "HuggingFaceTB", "sentence-transformers"]')
    return tmp_path


def write(include: Path, content: dict[str, Any] | str, name: str = "reviews") -> None:
    text = content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False)
    (include / "tasks" / f"{name}.yaml").write_text(text)


def test_the_shipped_task_files_are_valid(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["tasks", "validate", "--include", str(SHIPPED)]) == 0
    assert "movie_sentiment: 2 labels" in capfd.readouterr().out


def test_each_fault_of_each_file_is_a_line_with_its_place_its_rule_and_its_mend(
    include: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fields = task_fields()
    fields["annotator"] = {"model": "tests/tiny-llama", "revision": "main", "sampel": 100}
    fields["encoder"]["strategy"] = "lm"
    write(include, fields)
    write(include, "name: tabs\n\tlabels: {}\n", "tabs")
    write(include, "name: lists\nlabels: [a, b\nowner: me\n", "lists")
    write(include, task_fields("sound"), "sound")
    assert run(["tasks", "validate"]) == 78
    out, err = capfd.readouterr()
    at = include / "tasks"
    assert out.startswith("sound: 2 labels")
    assert err.splitlines() == [
        f"{at}/lists.yaml: not valid YAML: line 3, column 6: expected ',' or ']', but got ':' (while parsing a flow "
        "sequence, which begins in line 2)",
        f"{at}/reviews.yaml: annotator.revision: must be a commit, its 40 hexadecimal digits: the hub lists them under "
        "the model's files and versions (found 'main')",
        f"{at}/reviews.yaml: annotator.sample: is missing; add it",
        f"{at}/reviews.yaml: annotator.sampel: unknown field; did you mean 'sample'?",
        f"{at}/reviews.yaml: encoder.strategy: must be 'gold', 'llm', 'llm+extra' or 'combined'; did you mean 'llm'? "
        "(found 'lm')",
        f"{at}/tabs.yaml: not valid YAML: line 2, column 1: tabs cannot indent; use spaces",
        "llambert: tasks validate: 6 faults; see above",
    ]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"gold": "gold/none.csv"}, "gold: no file"),
        (
            {"source": {"uri": "s3://elsewhere/{partition}/*", "id": "id", "text": "text"}},
            "source.uri: source 's3://el",
        ),
        (
            {"encoder": {"model": "evil/bert", "revision": REVISION}},
            "encoder.model: model 'evil/bert': models of",
        ),
        ({"annotator": {"model": "evil/llm", "revision": REVISION, "sample": 9}}, "annotator.model: model 'evil/llm'"),
        ({"annotator": served_fields()["annotator"]}, "annotator.server: annotator.server 'fake'"),
        ({"alerts": "nlp"}, "alerts: the channels here are []; add 'nlp'"),
        (
            {"export": {"connection": "warehouse", "table": "labels"}},
            "export.0.connection: connection 'warehouse': not known",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_cannot_run_here_is_a_warning_and_no_fault(
    include: Path, capfd: pytest.CaptureFixture[str], fields: dict[str, Any], said: str
) -> None:
    write(include, {**task_fields(), **fields})
    assert run(["tasks", "validate"]) == 0
    out, err = capfd.readouterr()
    assert out.startswith("reviews: 2 labels")
    (line,) = err.splitlines()
    assert line.startswith(f"warning: {include}/tasks/reviews.yaml: {said}")


def test_without_settings_files_are_read_and_nothing_is_said_of_the_deployment(
    include: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LLAMBERT_LAKE")
    write(include, {**task_fields(), "alerts": "nlp"})
    assert run(["tasks", "validate"]) == 0
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("warning: nothing is said of the deployment, for settings: LLAMBERT_LAKE: is missing")


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("landing/{partition}/*.jsonl", "must be s3://bucket/... or an absolute path"),
        ("ftp://landing/{partition}/*", "scheme 'ftp' is not read"),
        ("/landing/{partition}/{hour}/*", "the only placeholder is {partition}"),
    ],
)
def test_a_source_that_no_deployment_can_read_is_a_fault_of_the_task_file(
    include: Path, capfd: pytest.CaptureFixture[str], uri: str, said: str
) -> None:
    fields = task_fields()
    fields["source"]["uri"] = uri
    write(include, fields)
    assert run(["tasks", "validate"]) == 78
    err = capfd.readouterr().err
    assert "tasks/reviews.yaml: source.uri: " in err
    assert said in err


def test_a_mistyped_task_is_asked_after(include: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write(include, task_fields())
    assert run(["tasks", "show", "--task", "reveiws"]) == 78
    assert "did you mean 'reviews'?" in capfd.readouterr().err


def test_a_new_task_is_valid_as_it_is_and_asks_with_its_own_labels_and_what_they_mean(
    include: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    labels = ["--label", 'invoice=About money: "the bill".', "--label", "other=Anything else, # or é."]
    assert run(["tasks", "new", "tickets", *labels]) == 0
    assert run(["tasks", "validate"]) == 0
    task = find_task(include, "tickets")
    assert task.labels == {"invoice": 'About money: "the bill".', "other": "Anything else, # or é."}
    assert task.source.uri == "s3://landing/tickets/{partition}/*"  # type: ignore[union-attr]
    capfd.readouterr()
    assert run(["tasks", "prompt", "--task", "tickets", "--text", "Where is\nmy [INST] bill?"]) == 0
    shown = capfd.readouterr().out
    assert '\ninvoice: About money: "the bill".\nother: Anything else, # or é.\n' in shown
    assert shown.endswith("Text: Where is my (INST) bill?\nLabel:\n")
    assert "entiment" not in shown
    (include / "tasks" / "tickets.yaml").write_text(
        (include / "tasks" / "tickets.yaml").read_text().replace("classify.j2 ", "classify_chat.j2 ")
    )
    assert run(["tasks", "prompt", "--task", "tickets", "--text", "Where is\nmy bill?"]) == 0
    shown = capfd.readouterr().out
    assert shown.startswith("--- user\n")
    assert '\n- invoice: About money: "the bill".\n- other: Anything else, # or é.\n' in shown
    assert shown.endswith("Text: Where is\nmy bill?\n")


def test_a_new_task_in_an_empty_folder_brings_its_prompts(include: Path, tmp_path: Path) -> None:
    assert run(["tasks", "new", "tickets", "--include", str(tmp_path / "own")]) == 0
    assert run(["tasks", "validate", "--include", str(tmp_path / "own")]) == 0
    for name in ("classify.j2", "classify_chat.j2"):
        assert (tmp_path / "own" / "prompts" / name).read_bytes() == (SHIPPED / "prompts" / name).read_bytes()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["reviews"], "is there already"),
        (["Tickets"], "name: must be lower-case letters"),
        (["tickets", "--label", "invoice"], "write NAME=MEANING"),
        (["tickets", "--label", "invoice=Money."], "at least two labels"),
        (["tickets", "--source", "landing/{partition}/*"], "or an absolute path"),
        (["tickets", "--source", "/landing/*"], "must contain {partition}"),
    ],
)
def test_what_no_task_can_have_is_refused_and_leaves_no_file(
    include: Path, capfd: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    write(include, task_fields())
    assert run(["tasks", "new", *arguments]) == 78
    assert said in capfd.readouterr().err
    assert [path.name for path in (include / "tasks").iterdir()] == ["reviews.yaml"]


def test_a_prompt_is_shown_for_a_document_of_the_lake_as_a_server_is_sent_it(
    include: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fields = served_fields()
    fields["source"]["uri"] = f"{tmp_path}/landing/{{partition}}/*"
    write(include, fields)
    assert run(["tasks", "prompt", "--task", "reviews"]) == 65
    assert "no document in the lake yet; give a text with --text" in capfd.readouterr().err
    (tmp_path / "landing" / "2026-11-10").mkdir(parents=True)
    (tmp_path / "landing" / "2026-11-10" / "x.csv").write_text("id,text\n1,A <|im_end|> film\n")
    settings = load_settings()
    task, day = find_task(include, "reviews"), Partition("2026-11-10")
    ingest(Run(task, day, "r"), lake=Lake.from_settings(settings), settings=settings)
    assert run(["tasks", "prompt", "--json", "--task", "reviews"]) == 0
    turns = json.loads(capfd.readouterr().out)
    assert turns[-1]["role"] == "user"
    assert "A (|im_end|) film" in turns[-1]["content"]
