"""Provider: the files and batches of a server that takes requests by the file and answers them within a day."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, Field, ValidationError

from llambert_etl.errors import ConfigError, TransientError
from llambert_etl.llm.refusals import refusal
from llambert_etl.llm.server import check_access, connect, is_passing, request
from llambert_etl.settings import Server

logger = logging.getLogger(__name__)

_OVER = {"completed", "failed", "expired", "cancelled"}
# Under this name a batch carries the intent that it was made for.
_INTENT = "llambert"
_TOLD_SECONDS = 600.0


_Model = TypeVar("_Model", bound=BaseModel)


class _File(BaseModel):
    id: str


class _Fault(BaseModel):
    code: str | None = None


class _Faults(BaseModel):
    data: list[_Fault] = Field(default_factory=list)


class _Counts(BaseModel):
    total: int = 0
    completed: int = 0


class Batch(BaseModel):
    """A batch as the provider describes it. One that expired or was cancelled has results too, fewer."""

    id: str
    status: str
    input_file_id: str | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    metadata: dict[str, str] | None = None
    request_counts: _Counts | None = None
    errors: _Faults | None = None

    @property
    def answered(self) -> int:
        """Return how many requests were answered, and are paid; 0 where the provider does not count."""
        return self.request_counts.completed if self.request_counts else 0

    @property
    def fault(self) -> str:
        """Say why the provider refused the whole file."""
        return ", ".join(fault.code or "no reason" for fault in self.errors.data) if self.errors else "no reason"


class _Page(BaseModel):
    data: list[Batch]
    has_more: bool = False


class Provider:
    """A connection to one server's `/files` and `/batches`."""

    def __init__(self, client: httpx.Client, name: str, server: Server) -> None:
        self._client, self._name, self._server = client, name, server

    @classmethod
    @contextmanager
    def open(cls, name: str, server: Server) -> Iterator[Self]:
        with connect(server) as client:
            yield cls(client, name, server)

    def upload(self, requests: Path) -> str:
        """Upload requests, of which nothing is answered yet; return the name that the provider gives the file."""
        with requests.open("rb") as file:
            form = {"file": ("requests.jsonl", file, "application/jsonl")}
            return self._send(_File, "POST", "files", data={"purpose": "batch"}, files=form).id

    def create(self, file: str, intent: str) -> Batch:
        """Make a batch of an uploaded file.

        This is tried once: where its reply is lost, `find` tells whether there is one now.
        """
        body = {
            "input_file_id": file,
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
            "metadata": {_INTENT: intent},
        }
        return self._send(Batch, "POST", "batches", json=body)

    def find(self, intent: str, file: str | None) -> Batch | None:
        """Return the batch that was made for an intent, or of a file where the provider keeps no metadata."""
        query: dict[str, str | int] = {"limit": 100}
        while True:
            page = self._send(_Page, "GET", "batches", params=query)
            for batch in page.data:
                if (batch.metadata or {}).get(_INTENT) == intent or (file and batch.input_file_id == file):
                    return batch
            if not page.has_more or not page.data:
                return None
            query["after"] = page.data[-1].id

    def cancel(self, batch: str) -> None:
        """Ask the provider to answer no more of a batch."""
        self._send(Batch, "POST", f"batches/{quote(batch, safe='')}/cancel")

    def wait(self, batch: str, stop: threading.Event) -> Batch:
        """Return the batch when it is over. Raise TransientError after the longest wait, or when asked to stop."""
        began = told = time.monotonic()
        while True:
            found = self._look(batch)
            if found is not None and found.status in _OVER:
                return found
            counts = (found.request_counts if found else None) or _Counts()
            state = (
                f"batch {batch} is {found.status if found else 'not to be seen'}, {counts.completed} of {counts.total}"
            )
            if time.monotonic() - told > _TOLD_SECONDS:
                logger.info("server %s: %s", self._name, state)
                told = time.monotonic()
            asked_to_stop = stop.wait(self._server.batch_poll_seconds)
            if asked_to_stop or time.monotonic() - began > self._server.batch_wait_seconds:
                raise TransientError(f"server {self._name!r}: {state} done; run the step again, it waits for the same")

    def download(self, batch: Batch, folder: Path) -> list[Path]:
        """Fetch the results of a batch, good ones and errors, into new files of a folder, named by us."""
        paths = []
        for file, name in ((batch.output_file_id, "output.jsonl"), (batch.error_file_id, "errors.jsonl")):
            if not file:
                continue
            place = f"files/{quote(file, safe='')}/content"
            paths.append(folder / name)
            with self._faults(place), self._client.stream("GET", place) as response, paths[-1].open("wb") as results:
                for chunk in response.iter_raw():
                    results.write(chunk)
            self._check(response, place, b"")
        return paths

    def _look(self, batch: str) -> Batch | None:
        try:
            return self._send(Batch, "GET", f"batches/{quote(batch, safe='')}")
        except TransientError as error:
            logger.warning("%s", error)
            return None

    def _send(self, kind: type[_Model], method: str, place: str, **options: Any) -> _Model:
        """Return what the provider answers to one request."""
        with self._faults(place):
            response, content = request(self._client, method, place, self._server.timeout_seconds, **options)
        self._check(response, place, content)
        try:
            return kind.model_validate_json(content)
        except ValidationError as error:
            raise TransientError(f"server {self._name!r}: {place}: no JSON of a {kind.__name__}; try again") from error

    @contextmanager
    def _faults(self, place: str) -> Iterator[None]:
        try:
            yield
        except httpx.RequestError as error:
            raise TransientError(f"server {self._name!r}: {place}: {type(error).__name__}; try again") from error

    def _check(self, response: httpx.Response, place: str, content: bytes) -> None:
        status, code = response.status_code, refusal(response.status_code, content)
        check_access(self._name, status, code)
        if is_passing(status):
            raise TransientError(f"server {self._name!r}: {place}: {code} ({status}); try again")
        if status >= 400:
            raise ConfigError(
                f"server {self._name!r}: {place}: refused, {code} ({status}); see whether it takes batch files"
            )
