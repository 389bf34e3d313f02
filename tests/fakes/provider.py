"""A provider of batch files on loopback: takes files, makes batches of them, and answers after some looks."""

import email
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.fakes.llm import KEY, FakeLlm, error
from tests.fakes.server import Answer, Request, json_answer

Line = dict[str, Any]


class FakeProvider(FakeLlm):
    """Answers every request of a batch as FakeLlm would, and counts it as paid when the batch is made.

    `looks` is how often a batch is seen unfinished; `spoil` may change the lines of its results; `end` is its last
    status, `name` what it calls its files; a `forgetful` one keeps no metadata; `before` and `after`, given method and
    path, may answer in place of the server: `after` when it has done what was asked, so that its own answer is lost.
    """

    def __init__(self) -> None:
        super().__init__()
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.looks = 1
        self.end = "completed"
        self.name = "file-{}"
        self.forgetful = False
        self.spoil: Callable[[list[Line]], list[Line]] = lambda lines: lines
        self.before: Callable[[str, str], Answer | None] = lambda method, path: None
        self.after: Callable[[str, str], Answer | None] = lambda method, path: None
        self.requests: list[tuple[str, str]] = []

    def route(self, request: Request) -> Answer:
        method, where = request.method, urlsplit(request.path).path.removeprefix("/v1")
        with self.lock:
            self.requests.append((method, where))
        if request.headers["Authorization"] != f"Bearer {KEY}" or where == "/chat/completions":
            return super().route(request)
        early = self.before(method, where)
        if early is not None:
            return early
        with self.lock:
            answer = self._serve(request, where)
        return self.after(method, where) or answer

    def _serve(self, request: Request, where: str) -> Answer:
        query = parse_qs(urlsplit(request.path).query)
        match request.method, *where.strip("/").split("/"):
            case "POST", "files":
                return json_answer({"id": self._keep(_uploaded(request)), "purpose": "batch"})
            case "GET", "files", file, "content":
                return 200, {}, self.files[unquote(file)]
            case "POST", "batches":
                return json_answer(self._begin(json.loads(request.body)))
            case "GET", "batches":
                newest = list(self.batches.values())[::-1]
                after = [batch["id"] for batch in newest].index(query["after"][0]) + 1 if "after" in query else 0
                return json_answer({"data": newest[after : after + 1], "has_more": after + 1 < len(newest)})
            case "POST", "batches", batch, "cancel":
                if self.batches[batch]["status"] == "completed":
                    return error(409, "batch_is_over")
                self.batches[batch]["status"] = "cancelled"
                return json_answer(self.batches[batch])
            case "GET", "batches", batch:
                return json_answer(self._look(self.batches[batch])) if batch in self.batches else error(404)
        return error(404)

    def _keep(self, content: bytes) -> str:
        name = self.name.format(len(self.files))
        self.files[name] = content
        return name

    def _begin(self, wanted: dict[str, Any]) -> dict[str, Any]:
        kept = {"input_file_id": wanted["input_file_id"]} if self.forgetful else wanted
        made = {**kept, "id": f"batch_{len(self.batches)}", "status": "validating", "looks": 0}
        self.batches[made["id"]] = made
        if self.end != "failed":
            for line in self.files[wanted["input_file_id"]].splitlines():
                text = json.loads(line)["body"]["messages"][-1]["content"]
                self.asked[text] += 1
                self.answered[text] += 1
        self.reached.notify_all()
        return made

    def _look(self, batch: dict[str, Any]) -> dict[str, Any]:
        batch["looks"] += 1
        if batch["looks"] <= self.looks:
            batch["status"] = "in_progress"
        elif batch["status"] not in (self.end, "cancelled"):
            batch["status"] = self.end
            if self.end == "failed":
                batch["errors"] = {"data": [{"code": "token_limit_exceeded", "message": "too many"}]}
            else:
                requests = [json.loads(line) for line in self.files[batch["input_file_id"]].splitlines()]
                lines = self.spoil([self.result(request) for request in requests])
                good = [line for line in lines if line["error"] is None]
                batch["output_file_id"] = self._keep(jsonl(good))
                batch["error_file_id"] = self._keep(jsonl([line for line in lines if line["error"] is not None]))
        return batch

    def result(self, request: Line) -> Line:
        body = self.say(request["body"]["messages"][-1]["content"])
        response = {"status_code": 200, "request_id": "r", "body": body}
        return {"id": "batch_req_1", "custom_id": request["custom_id"], "response": response, "error": None}


def jsonl(lines: list[Line]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def _uploaded(request: Request) -> bytes:
    kind = request.headers["Content-Type"].encode()
    form = email.message_from_bytes(b"Content-Type: " + kind + b"\r\n\r\n" + request.body)
    parts: Any = form.get_payload()
    contents = [part.get_payload(decode=True) for part in parts if part.get_filename()]
    assert contents, "no file in the form"
    return bytes(contents[0])
