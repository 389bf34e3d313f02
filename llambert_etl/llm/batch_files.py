"""Provider batch files: a JSON line for each request, and the lines of results that come back in any order."""

import codecs
import json
from collections.abc import Container, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, JsonValue, ValidationError

from llambert_etl.errors import DataError
from llambert_etl.llm import Reply
from llambert_etl.llm.chat import Questions, failed
from llambert_etl.llm.refusals import refusal, status_of
from llambert_etl.llm.server import is_passing
from llambert_etl.wording import shown

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


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
    """One result. `passing`: what failed may succeed when it is sent again."""

    reply: Reply
    place: str  # file and line
    passing: bool = False


def read_results(paths: Iterable[Path], questions: Questions) -> dict[str, Answered]:
    """Return the replies in files of results, by text hash; a failure gives way to an answer about the same document.

    Raise DataError naming file and line for what is no result, and for two answers about one document.
    """
    answers: dict[str, Answered] = {}
    for path in paths:
        for place, line in _lines(path):
            result = _result(line, place)
            found = _answered(result, questions, place)
            known = answers.setdefault(result.custom_id, found)
            if known.reply == found.reply or not found.reply.is_answer:
                continue
            if known.reply.is_answer:
                raise DataError(
                    f"{place}: custom_id {shown(result.custom_id)} has another result in {known.place}; keep one of "
                    "the two"
                )
            answers[result.custom_id] = found
    return answers


def refuse_foreign(answers: Mapping[str, Answered], known: Container[str]) -> None:
    """Raise DataError naming file and line of an answer about a document that nobody asked about."""
    for key, answer in answers.items():
        if key not in known:
            raise DataError(
                f"{answer.place}: custom_id {shown(key)} is the text hash of no document that was asked about; remove "
                "the line, or name the task and the partition that the file belongs to"
            )


def _lines(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield place and content of each line that is not empty, without a byte order mark."""
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            place = f"{path} line {number}"
            # JSON has no NUL: each second byte of an English text in UTF-16 is one.
            if line.startswith(_UTF16) or b"\0" in line:
                raise DataError(f"{place}: is in UTF-16 or no text at all; save the file as UTF-8")
            # Files that were put one after the other have a mark inside.
            if content := line.removeprefix(codecs.BOM_UTF8).strip():
                yield place, content


def _result(line: bytes, place: str) -> _Result:
    try:
        return _Result.model_validate_json(line)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        seen = " ".join([".".join(map(str, fault["loc"])), fault["type"]]).strip()
        raise DataError(
            f"{place}: no result of a batch ({seen}); fetch the file again, it may be cut, or remove the line"
        ) from None


def _answered(result: _Result, questions: Questions, place: str) -> Answered:
    response = result.response
    if response is None:
        return Answered(failed(refusal(0, json.dumps({"error": result.error}).encode())), place, passing=True)
    content = json.dumps(response.body).encode()
    status = status_of(response.status_code, content)
    if status != 200:
        return Answered(failed(refusal(status, content)), place, passing=is_passing(status))
    return Answered(questions.reply("", content) or failed("unreadable"), place)
