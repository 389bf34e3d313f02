"""Faults on demand: an HTTP proxy that refuses, delays or cuts chosen requests, or kills whoever sends them."""

import contextlib
import dataclasses
import datetime
import http.client
import multiprocessing
import os
import re
import signal
import threading
from collections.abc import Iterator
from email.utils import format_datetime, parsedate_to_datetime
from http.server import BaseHTTPRequestHandler
from multiprocessing.managers import BaseManager
from typing import Any, Literal
from urllib.parse import urlsplit

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.fakes.server import LoopbackServer

Fault = Literal[
    "503",  # refused without asking the server
    "500_after",  # done, but answered with an error
    "drop_before",  # the connection ends before the server is asked
    "drop_after",  # done, but the answer is lost
    "delay",  # held for `seconds`, then done
    "truncate",  # half of the body, then the connection ends
    "kill_before",  # SIGKILL to `pid`, never done
    "kill_after",  # done, then SIGKILL to `pid`
    "pause",  # SIGSTOP to `pid`, done once `release` is set
    "gather",  # held until `times` such requests are there: a race that always happens
    "strip",  # done without `header`, signed again with `keys`
    "shift",  # done; the times of files in the answer are moved by `seconds`, as by a clock that is wrong
]
DEADLINE = 120.0
COMMIT = r"/_delta_log/\d+\.json"


@dataclasses.dataclass
class Rule:
    """Apply `fault` to the requests number `nth` to `nth + times - 1` that match; `times=None` means for ever."""

    fault: Fault
    method: str
    path: str
    nth: int = 1
    times: int | None = 1
    pid: int = 0
    seconds: float = DEADLINE
    header: str = "If-None-Match"
    keys: tuple[str, str] = ("", "")
    seen: int = 0
    reached: threading.Event = dataclasses.field(default_factory=threading.Event)
    release: threading.Event = dataclasses.field(default_factory=threading.Event)

    def applies(self, method: str, path: str) -> bool:
        if not (re.fullmatch(self.method, method) and re.search(self.path, path)):
            return False
        self.seen += 1
        if self.times is not None and self.seen >= self.nth + self.times - 1:
            self.reached.set()
        return self.seen >= self.nth and (self.times is None or self.seen < self.nth + self.times)


class Proxy:
    """An HTTP proxy on loopback in front of `upstream`.

    It keeps `Host`, so that signatures stay valid; a server that takes only its own name wants it replaced.
    """

    def __init__(self, upstream: str, keep_host: bool = True) -> None:
        self.upstream, self.keep_host = urlsplit(upstream).netloc, keep_host
        self.rules: list[Rule] = []
        self._lock = threading.Lock()
        self._server = LoopbackServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": self}))
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def rule(self, fault: Fault, method: str, path: str, **options: Any) -> int:
        """Break the requests whose method and path (with its query) match; return the rule's number."""
        self.rules.append(Rule(fault, method, path, **options))
        return len(self.rules) - 1

    def seen(self, rule: int) -> int:
        """Return how many requests have matched."""
        return self.rules[rule].seen

    def reached(self, rule: int) -> bool:
        """Wait until the last request that the rule is for has come."""
        return self.rules[rule].reached.wait(DEADLINE)

    def release(self, rule: int) -> None:
        self.rules[rule].release.set()

    def reset(self) -> None:
        """Forget all rules and let go of what they hold."""
        with self._lock:
            held, self.rules = self.rules, []
        for rule in held:
            rule.reached.set()
            rule.release.set()

    def match(self, method: str, path: str) -> Rule | None:
        with self._lock:
            return next((rule for rule in self.rules if rule.applies(method, path)), None)


class _Manager(BaseManager):
    """Runs a Proxy in a process of its own: a client that holds the interpreter lock while it waits would block it."""


_Manager.register("Proxy", Proxy)


@contextlib.contextmanager
def fault_proxy(upstream: str, keep_host: bool = True) -> Iterator[Proxy]:
    manager = _Manager(ctx=multiprocessing.get_context("spawn"))
    manager.start(_end_with_parent)
    try:
        yield manager.Proxy(upstream, keep_host)  # type: ignore[attr-defined]
    finally:
        manager.shutdown()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _shifted(
    headers: list[tuple[str, str]], content: bytes, by: datetime.timedelta
) -> tuple[list[tuple[str, str]], bytes]:
    def header(name: str, value: str) -> str:
        return format_datetime(parsedate_to_datetime(value) + by, usegmt=True) if name == "last-modified" else value

    def listed(found: re.Match[bytes]) -> bytes:
        return (datetime.datetime.fromisoformat(found[0].decode()) + by).strftime("%Y-%m-%dT%H:%M:%S.000Z").encode()

    length = "content-length" if content else ""  # of a HEAD it is all there is
    found = [(name, header(name.lower(), value)) for name, value in headers if name.lower() != length]
    return found, re.sub(rb"(?<=<LastModified>)[^<]+", listed, content)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or a body waits 40 ms for the word that its headers came
    proxy: Proxy

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self._handle
        raise AttributeError(name)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: a test asserts on what is stored."""

    def _handle(self) -> None:
        body = self._body()
        rule = self.proxy.match(self.command, self.path)
        fault = rule.fault if rule else None
        if rule is None:
            self._reply(*self._forward(body, dict(self.headers.items())))
        elif fault == "503":
            self._reply(503, [], b"<Error><Code>SlowDown</Code></Error>")
        elif fault == "drop_before":
            self._drop()
        elif fault == "kill_before":
            self._kill(rule.pid)
        else:
            self._faulty(rule, body)

    def _faulty(self, rule: Rule, body: bytes) -> None:
        headers = dict(self.headers.items())
        if rule.fault == "delay":
            rule.release.wait(rule.seconds)
        elif rule.fault == "gather":
            rule.reached.wait(DEADLINE)
        elif rule.fault == "pause":
            os.kill(rule.pid, signal.SIGSTOP)
            rule.release.wait(DEADLINE)
        elif rule.fault == "strip":
            headers = self._signed_without(rule, headers, body)
        status, found, content = self._forward(body, headers)
        if rule.fault == "shift":
            found, content = _shifted(found, content, datetime.timedelta(seconds=rule.seconds))
        if rule.fault == "500_after":
            self._reply(500, [], b"<Error><Code>InternalError</Code></Error>")
        elif rule.fault == "drop_after":
            self._drop()
        elif rule.fault == "kill_after":
            self._kill(rule.pid)
        elif rule.fault == "truncate":
            self._reply(status, found, content, sent=len(content) // 2)
        else:
            self._reply(status, found, content)

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _forward(self, body: bytes, headers: dict[str, str]) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(self.proxy.upstream, timeout=DEADLINE)
        with contextlib.closing(connection):
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            if not self.proxy.keep_host:
                headers = {name: value for name, value in headers.items() if name.lower() != "host"}
                headers["Host"] = self.proxy.upstream
            for name, value in headers.items():
                if name.lower() not in ("connection", "expect", "transfer-encoding", "content-length"):
                    connection.putheader(name, value)
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()

    def _reply(self, status: int, headers: list[tuple[str, str]], content: bytes, sent: int | None = None) -> None:
        length = next((value for name, value in headers if name.lower() == "content-length"), str(len(content)))
        with contextlib.suppress(ConnectionError):  # the client may be dead by now, or tired of waiting
            self.send_response_only(status)
            for name, value in headers:
                if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                    self.send_header(name, value)
            self.send_header("Content-Length", length)
            self.end_headers()
            self.wfile.write(content[:sent])
        if sent is not None:
            self._drop()

    def _kill(self, pid: int) -> None:
        with contextlib.suppress(ProcessLookupError):  # of several that share the rule, this one may have ended
            os.kill(pid, signal.SIGKILL)
        self._drop()

    def _drop(self) -> None:
        self.close_connection = True

    def _signed_without(self, rule: Rule, headers: dict[str, str], body: bytes) -> dict[str, str]:
        kept = {name: value for name, value in headers.items() if name.lower() not in (rule.header.lower(), "host")}
        kept.pop("Authorization", None)
        request = AWSRequest(self.command, f"http://{self.headers['Host']}{self.path}", headers=kept, data=body)
        S3SigV4Auth(Credentials(*rule.keys), "s3", "us-east-1").add_auth(request)
        return {"Host": self.headers["Host"], **dict(request.headers.items())}
