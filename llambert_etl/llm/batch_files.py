"""Provider batch files: a JSON line for each request, and the lines of results that come back in any order."""

import json
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, JsonValue, ValidationError

from llambert_etl.errors import DataError
from llambert_etl.llm import Reply
from llambert_etl.llm.chat import Questions, failed
from llambert_etl.llm.refusals import refusal, status_of


class _Response(BaseModel):
    status_code: int
    body: JsonValue = None


class _Result(BaseModel):
    custom_id: str
    response: _Response | None = None
    error: JsonValue = None


def request_line(questions: Questions, text_hash: str, text: str) -> bytes:
    """Return one request as a line. Its result is known again by the text's hash."""
    request = {"custom_id": text_hash, "method": "POST", "url": "/v1/chat/completions", "body": questions.body(text)}
    return json.dumps(request, ensure_ascii=False).encode() + b"\n"


class Answered(NamedTuple):
    reply: Reply
    place: str  # file and line


def read_results(paths: Iterable[Path], questions: Questions) -> dict[str, Answered]:
    """Return the replies in files of results, by text hash.

    Raise DataError naming file and line for what is no result, and for two results about one document.
    """
    answers: dict[str, Answered] = {}
    for path in paths:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                place = f"{path} line {number}"
                result = _result(line, place)
                reply = _reply(result, questions)
                known = answers.setdefault(result.custom_id, Answered(reply, place))
                if known.reply != reply:
                    raise DataError(
                        f"{place}: custom_id {result.custom_id!r:.80} has another result in {known.place}; keep one of "
                        "the two"
                    )
    return answers


def refuse_foreign(answers: Mapping[str, Answered], known: Container[str]) -> None:
    """Raise DataError naming file and line of an answer about a document that nobody asked about."""
    for key, answer in answers.items():
        if key not in known:
            raise DataError(
                f"{answer.place}: custom_id {key!r:.80} is the text hash of no document that was asked about; remove "
                "the line, or name the task and the partition that the file belongs to"
            )


def _result(line: bytes, place: str) -> _Result:
    try:
        return _Result.model_validate_json(line)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        seen = " ".join([".".join(map(str, fault["loc"])), fault["type"]]).strip()
        raise DataError(
            f"{place}: no result of a batch ({seen}); fetch the file again, it may be cut, or remove the line"
        ) from None


def _reply(result: _Result, questions: Questions) -> Reply:
    response = result.response
    if response is None:
        return failed(refusal(0, json.dumps({"error": result.error}).encode()))
    content = json.dumps(response.body).encode()
    status = status_of(response.status_code, content)
    if status != 200:
        return failed(refusal(status, content))
    return questions.reply("", content) or failed("unreadable")
