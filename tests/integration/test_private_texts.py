"""Nothing that a command says or keeps beside the tables holds a document's text or a model's reply."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from laptop.environment import variables
from llambert_etl.cli import run
from llambert_etl.settings import Settings
from tests.fakes.llm import FakeLlm, chat_answer, error
from tests.given.landing import DAY
from tests.given.poison import jsonl, parquet
from tests.given.served import served_fields, server, write_template

CANARY = "the nurse told me in confidence"
# As long as a text is, and begun with the canary: what is cut to a beginning shows it.
TEXT = f"{CANARY}, and this is what she said about the ward, the doctors, the food and everybody there"
IDS = [f"r{number}" for number in range(20)]
LABELS = ("positive", "negative")


class Desk:
    """A deployment in one folder and everything that its commands have said."""

    def __init__(self, root: Path, llm: FakeLlm, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.llm, self.said = root, llm, ""
        (root / "include" / "tasks").mkdir(parents=True)
        write_template(root / "include")
        self.write_task()
        settings = Settings(
            lake=str(root / "lake"),
            include=root / "include",
            state=root / "state",
            sources=[str(root / "landing")],
            servers={"fake": server(llm.url, patience_seconds=0.1)},
        )
        for name, value in variables(settings).items():
            monkeypatch.setenv(name, value)

    def write_task(self, **annotator: object) -> None:
        fields = {**served_fields(**annotator), "source": {"uri": f"{self.root}/landing/{{partition}}/*"}}
        fields["source"] |= {"id": "id", "text": "text"}
        (self.root / "include" / "tasks" / "reviews.yaml").write_text(yaml.safe_dump(fields, sort_keys=False))

    def drop(self, name: str, content: bytes) -> None:
        path = self.root / "landing" / DAY / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def file(self, name: str, content: bytes) -> str:
        (self.root / name).write_bytes(content)
        return str(self.root / name)

    def documents(self) -> None:
        self.drop("a.jsonl", jsonl(*({"id": key, "text": f"{TEXT} {number}"} for number, key in enumerate(IDS))))
        assert run(["ingest", "--task", "reviews", "--partition", DAY]) == 0

    def kept(self) -> dict[str, bytes]:
        """Return what the lake and the state folder hold beside the rows of tables: log, notes, reports."""
        files = (path for name in ("lake", "state") for path in (self.root / name).rglob("*"))
        return {str(path): path.read_bytes() for path in files if path.is_file() and path.suffix != ".parquet"}


def table(*rows: tuple[str, ...]) -> bytes:
    written = io.StringIO()
    csv.writer(written).writerows(rows)
    return written.getvalue().encode()


def headerless(desk: Desk) -> list[str]:
    desk.drop("a.csv", table(("r1", TEXT), ("r2", TEXT)))
    return ["ingest"]


def one_column_wrong(desk: Desk) -> list[str]:
    desk.drop("a.csv", table(("id", TEXT), ("r1", TEXT)))
    return ["ingest"]


def columns_named_like_texts(desk: Desk) -> list[str]:
    desk.drop("a.parquet", parquet(**{f"{'x' * 60}{TEXT}": ["r1"]}))
    return ["ingest"]


def unreadable_rows(desk: Desk) -> list[str]:
    desk.drop("a.jsonl", json.dumps({"id": "r1", "text": TEXT})[:-1].encode() + b"\n" + jsonl({"id": TEXT * 20}))
    assert run(["ingest", "--task", "reviews", "--partition", DAY]) == 0
    return ["check", "documents"]


def gold_file(name: str, content: bytes) -> Callable[[Desk], list[str]]:
    def write(desk: Desk) -> list[str]:
        desk.documents()
        return ["gold", "import", desk.file(name, content)]

    return write


def review_file(name: str, content: bytes) -> Callable[[Desk], list[str]]:
    def write(desk: Desk) -> list[str]:
        desk.documents()
        return ["review", "import", desk.file(name, content)]

    return write


def recorded_file(content: bytes) -> Callable[[Desk], list[str]]:
    def write(desk: Desk) -> list[str]:
        desk.documents()
        desk.file("include/replies.csv", content)
        fields = yaml.safe_load((desk.root / "include" / "tasks" / "reviews.yaml").read_text())
        recorded = {"file": "replies.csv", "text": "text", "reply": "reply"}
        fields["annotator"] = {"model": "tests/llama", "revision": "0" * 40, "recorded": recorded}
        (desk.root / "include" / "tasks" / "reviews.yaml").write_text(yaml.safe_dump(fields, sort_keys=False))
        return ["annotate"]

    return write


def batch_file(desk: Desk) -> list[str]:
    desk.documents()
    body = {"status_code": 400, "body": {"error": {"code": TEXT, "message": TEXT}}}
    return ["batch", "read", desk.file("results.jsonl", jsonl({"custom_id": TEXT, "response": body}))]


def replies_that_are_no_labels(desk: Desk) -> list[str]:
    desk.documents()
    desk.llm.say = lambda text: chat_answer(f"You say: {text}. Hard to tell.")
    run(["annotate", "--task", "reviews", "--partition", DAY])
    return ["check", "annotations"]


def server_says(status: int, code: str | None) -> Callable[[Desk], list[str]]:
    """The server echoes the document in every field of its refusal."""

    def refuse(desk: Desk) -> list[str]:
        desk.documents()
        desk.llm.fault = lambda text, nth: error(status, code or text, message=text, param=text)
        return ["annotate"]

    return refuse


SWAPPED = [{"id": key, "label": f"{TEXT} {key}", "text": "positive"} for key in IDS]


@pytest.mark.parametrize(
    "refusal",
    [
        pytest.param(headerless, id="CSV without its header"),
        pytest.param(one_column_wrong, id="CSV with a text as a column's name"),
        pytest.param(columns_named_like_texts, id="Parquet with a text as a column's name"),
        pytest.param(unreadable_rows, id="rows that cannot be read"),
        pytest.param(gold_file("gold.csv", table(("r1", TEXT), ("r2", TEXT)) * 10), id="gold without its header"),
        pytest.param(gold_file("gold.jsonl", jsonl(*SWAPPED)), id="gold with text and label swapped"),
        pytest.param(gold_file("gold.jsonl", (json.dumps(SWAPPED[0])[:-1] + "\n").encode() * 20), id="gold cut off"),
        pytest.param(
            gold_file("gold.jsonl", jsonl(*({**row, "label": "positive", "split": TEXT} for row in SWAPPED))),
            id="gold with a text as its split",
        ),
        pytest.param(
            gold_file("gold.jsonl", jsonl(*({**row, "label": "positive", "labelled_at": TEXT} for row in SWAPPED))),
            id="gold with a text as its moment",
        ),
        pytest.param(
            gold_file("gold.jsonl", jsonl(*({"id": f"{'x' * 60}{TEXT}", "label": label} for label in LABELS * 10))),
            id="gold with a text as its id",
        ),
        pytest.param(review_file("back.csv", table(("r1", TEXT), ("r2", TEXT))), id="review without its header"),
        pytest.param(
            review_file("back.csv", table(("id", "label", "annotator"), ("r1", TEXT, "ada"))),
            id="review with a text as its label",
        ),
        pytest.param(
            review_file("back.csv", table(("id", "label", "annotator"), ("r1", "positive", TEXT * 5))),
            id="review with a text as its annotator",
        ),
        pytest.param(review_file("back.json", f'[{{"data": "{TEXT}"'.encode()), id="review cut off"),
        pytest.param(recorded_file(table((TEXT,), (TEXT,))), id="recorded replies without their header"),
        pytest.param(
            recorded_file(b"text,reply\n" + f'1,"{TEXT}\n'.encode() + b"2\n3,4,5\n"), id="recorded replies, cut off"
        ),
        pytest.param(batch_file, id="results of another batch"),
        pytest.param(replies_that_are_no_labels, id="replies that are no labels"),
        pytest.param(server_says(400, None), id="400 that echoes the text"),
        pytest.param(server_says(400, "unsupported_parameter"), id="unsupported parameter that echoes the text"),
        pytest.param(server_says(403, None), id="403 that echoes the text"),
        pytest.param(server_says(422, None), id="422 that echoes the text"),
        pytest.param(server_says(500, None), id="500 that echoes the text"),
    ],
)
def test_a_refusal_tells_no_text(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    refusal: Callable[[Desk], list[str]],
) -> None:
    with FakeLlm() as llm:
        desk = Desk(tmp_path, llm, monkeypatch)
        code = run([*refusal(desk), "--task", "reviews", "--partition", DAY])
    said = capfd.readouterr()
    assert code != 1, said.err
    assert CANARY not in said.out + said.err
    assert [path for path, content in desk.kept().items() if CANARY.encode() in content] == []
