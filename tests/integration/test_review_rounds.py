"""Whole reviews: the paper's, one in Label Studio, one on the command line, and some that are cut off or overlap."""

import json
import signal
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import yaml

from laptop.stack import REPOSITORY
from llambert_etl.cli import run
from llambert_etl.errors import DataError, TransientError
from llambert_etl.lake import Lake
from llambert_etl.reviews.reviewed import Stratum
from tests.fakes.proxy import COMMIT, Proxy
from tests.given.labelling import DAY, NEXT
from tests.given.reviews import Panel
from tests.given.tasks import make_task, task_fields, three_label_task
from tests.processes.children import Child

TEXTS = [f"text {number}" for number in range(20)]


@pytest.fixture
def panel(tmp_path: Path) -> Panel:
    """Twenty documents labelled positive; gold says negative of the first four, the LLM of the last six."""
    lake = Lake(str(tmp_path / "lake"))
    lake.create_tables()
    return filled(Panel(lake, tmp_path))


def filled(panel: Panel) -> Panel:
    panel.documents(dict.fromkeys(TEXTS, "positive"))
    panel.gold(dict.fromkeys(TEXTS[:4], "negative"))
    panel.annotated(dict.fromkeys(TEXTS[14:], "negative"))
    return panel


# What people said of 100 errors of two encoders, by the encoder's label (arXiv:2403.15938, manual analysis)
PAPER = {
    "llm": ({"positive": (31, 16, 13), "negative": (17, 14, 9)}, (45, 33, 22)),
    "combined": ({"positive": (25, 17, 13), "negative": (15, 14, 16)}, (39, 32, 29)),
}


@pytest.mark.parametrize("encoder", PAPER)
def test_the_paper_s_analysis_of_a_hundred_errors_is_one_review(tmp_path: Path, encoder: str) -> None:
    counts, (model, gold, mixed) = PAPER[encoder]
    people = ("positive", "negative", "mixed/unclear")
    said = {
        f"{label} {answer} {number}": (label, answer)
        for label, row in counts.items()
        for answer, n in zip(people, row, strict=True)
        for number in range(n)
    }
    lake = Lake(str(tmp_path / "lake"))
    lake.create_tables()
    panel = Panel(lake, tmp_path)
    panel.documents({text: label for text, (label, _) in said.items()})
    panel.gold({text: "negative" if label == "positive" else "positive" for text, (label, _) in said.items()})
    panel.export(size=100, strata=[Stratum.ERRORS])
    manifest = panel.answer({text: answer for text, (_, answer) in said.items()}, "author")
    assert manifest.facts["verdicts"]["errors"] == {
        label: dict(zip(people, row, strict=True)) for label, row in counts.items()
    }
    assert manifest.facts["sides"] == {"encoder": model, "gold": gold, "mixed/unclear": mixed}
    assert manifest.facts["gold"] == {"corrected test": model, "confirmed test": gold}


def test_the_random_share_says_how_often_the_labels_are_right_and_the_errors_do_not(panel: Panel) -> None:
    panel.export(size=10)
    truth = {text: "negative" if number < 4 or number == 14 else "positive" for number, text in enumerate(TEXTS)}
    random = [text for text, why in panel.strata().items() if why == "random"]
    right = sum(truth[text] == "positive" for text in random)
    found = panel.answer(truth).facts["accuracy"]["encoder"]
    assert (found["n"], found["value"]) == (10, right / 10)
    assert found["low"] < right / 10 < found["high"]


def test_three_labels_are_reviewed_as_two_are(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"))
    lake.create_tables()
    panel = Panel(lake, tmp_path, three_label_task())
    panel.documents({"a": "sports", "b": "business", "c": "science"})
    panel.gold({"a": "business", "b": "science", "c": "science"})
    panel.export(strata=[Stratum.ERRORS])
    facts = panel.answer({"a": "science", "b": "business"}).facts
    assert facts["sides"] == {"neither": 1, "encoder": 1}
    assert panel.golden(NEXT) == {"a": ("science", "test", "ada"), "b": ("business", "test", "ada")}


def test_the_report_is_a_page_that_shows_names_as_they_are(panel: Panel) -> None:
    panel.export(strata=[Stratum.RANDOM])
    manifest = panel.answer(dict.fromkeys(TEXTS[:5], "positive"), "<b>ada</b>")
    name = manifest.facts["report"].rpartition("/")[2]
    page = panel.lake.read_report(panel.task.name, NEXT, name)
    assert page
    assert "&lt;b&gt;ada&lt;/b&gt; and encoder" in page
    assert "1.000 (0.566 to 1.000)" in page
    assert "not known" in page
    assert "text 1" not in page


# Label Studio


def annotation(label: str | None, by: object, cancelled: bool = False) -> dict[str, Any]:
    """Return an annotation as Label Studio exports it."""
    choice = {"from_name": "label", "to_name": "text", "type": "choices", "id": "Dx", "value": {"choices": [label]}}
    return {
        "id": 7,
        "completed_by": by,
        "was_cancelled": cancelled,
        "ground_truth": False,
        "created_at": "2026-11-11T08:30:00.728353Z",
        "lead_time": 4.288,
        "result": [] if label is None else [choice],
    }


def label_studio(panel: Panel, said: dict[str, list[dict[str, Any]]]) -> Path:
    exported = [
        {"id": number, **task, "annotations": said.get(task["data"]["text"], []), "drafts": [], "project": 1}
        for number, task in enumerate(panel.tasks(), 1)
    ]
    path = panel.root / "export.json"
    path.write_text(json.dumps(exported), encoding="utf-8")
    return path


def test_an_export_of_label_studio_is_taken_with_who_and_when(panel: Panel) -> None:
    panel.export(strata=[Stratum.ERRORS], annotators=2)
    bob = {"id": 2, "email": "bob@example.org", "first_name": "Bob"}
    said = {
        TEXTS[0]: [annotation("positive", 1), annotation("positive", bob)],
        TEXTS[1]: [annotation("mixed/unclear", 1), annotation(None, bob, cancelled=True)],
        TEXTS[2]: [annotation(None, 1)],
    }
    manifest = panel.imports(label_studio(panel, said))
    assert manifest.rows == {"read": 6, "new": 3, "repeated": 0, "unanswered": 2, "skipped": 1}
    assert panel.golden(NEXT) == {TEXTS[0]: ("positive", "test", "1, bob@example.org")}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([annotation("great", 1)], "label 'great' is not one of"),
        ([annotation("positive", None)], "annotator None: must name who answered"),
        ([annotation("positive", 1), annotation("negative", 1)], "'1' has answered .* too; keep one answer"),
        ([{**annotation("positive", 1), "result": annotation("positive", 1)["result"] * 2}], "2 labels chosen"),
        ([{**annotation("positive", 1), "result": "positive"}], r"annotations.0.result is not that of a task"),
    ],
)
def test_a_wrong_answer_of_label_studio_is_named(panel: Panel, given: list[dict[str, Any]], said: str) -> None:
    panel.export(strata=[Stratum.ERRORS])
    file, before = label_studio(panel, {TEXTS[0]: given}), panel.versions()
    with pytest.raises(DataError, match=rf"'export.json' row \d: {said}"):
        panel.imports(file)
    assert panel.versions() == before


# Cut off, and at once


def importing(uri: str, options: dict[str, str], root: str, name: str) -> Generator[None, None, dict[str, int]]:
    panel = Panel(Lake(uri, options), Path(root))
    yield
    return panel.imports(Path(root) / name).versions_written


def test_an_import_killed_between_answers_and_gold_is_finished_by_the_next(
    lake: Lake, proxied: dict[str, str], proxy: Proxy, tmp_path: Path
) -> None:
    panel = filled(Panel(lake, tmp_path))
    panel.export(strata=[Stratum.ERRORS])
    file = panel.write(panel.answers({TEXTS[0]: "positive"}, "ada"))
    with Child(importing, lake.uri, proxied, str(tmp_path), file.name) as child:
        proxy.rule("kill_before", "PUT", f"/gold{COMMIT}", pid=child.ready().pid)
        child.go()
        assert child.wait() == -signal.SIGKILL
    assert panel.golden(NEXT) == {}
    asked = panel.versions()["reviews"]
    assert panel.imports(file).rows["repeated"] == 1
    assert panel.golden(NEXT) == {TEXTS[0]: ("positive", "test", "ada")}
    assert panel.versions()["reviews"] == asked


def test_an_import_that_has_not_seen_another_s_answers_does_not_replace_their_gold(
    lake: Lake, proxied: dict[str, str], proxy: Proxy, tmp_path: Path
) -> None:
    panel = filled(Panel(lake, tmp_path))
    panel.export(strata=[Stratum.ERRORS])
    slow = panel.write(panel.answers({TEXTS[0]: "positive"}, "ada"), "slow.csv")
    with Child(importing, lake.uri, proxied, str(tmp_path), slow.name) as child:
        # It has read the answers, and reads gold next.
        read = proxy.rule("pause", "GET", r"/gold/.*\.parquet", pid=child.ready().pid)
        child.go()
        assert proxy.reached(read)
        panel.answer({TEXTS[1]: "positive"}, "bob")
        proxy.release(read)
        child.resume()
        assert child.result() == TransientError.exit_code
    panel.imports(slow)
    assert set(panel.golden(NEXT)) == set(TEXTS[:2])


# The command line


def test_a_review_on_the_command_line(
    panel: Panel, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    include = panel.root / "include"
    (include / "tasks").mkdir(parents=True)
    (include / "prompts").symlink_to(REPOSITORY / "include" / "prompts")
    (include / "tasks" / "reviews.yaml").write_text(yaml.safe_dump(task_fields(), sort_keys=False), encoding="utf-8")
    monkeypatch.setenv("LLAMBERT_LAKE", panel.lake.uri)
    monkeypatch.setenv("LLAMBERT_INCLUDE", str(include))
    options = ["--task", make_task().name, "--run", "r1"]
    folder = str(panel.root / "review")
    assert run(["review", "export", folder, *options, "--partition", DAY, "--size", "5", "--stratum", "errors"]) == 0
    exported = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert exported["rows"] == {"read": 4, "errors": 4}
    assert json.loads((panel.root / "review" / "manifest.json").read_text(encoding="utf-8")) == exported
    file = panel.write(panel.answers({TEXTS[0]: "positive", TEXTS[1]: "mixed"}, "ada"))
    assert run(["review", "import", str(file), *options, "--partition", NEXT]) == 0
    *shown, last = capfd.readouterr().out.splitlines()
    assert json.loads(last)["facts"]["sides"] == {"encoder": 1, "mixed/unclear": 1}
    assert "1 encoder, 1 mixed/unclear" in "\n".join(shown)
    assert run(["review", "import", str(file), *options, "--partition", DAY]) == 0
