"""What the fakes that speak HTTP have in common: a server on loopback for as long as they are entered."""

import json
import sys
import threading
from collections.abc import Callable
from email.message import Message
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self

Answer = tuple[int, dict[str, str], bytes]  # status, headers, body


class Request(NamedTuple):
    """What a client has sent. `path` has the query too."""

    method: str
    path: str
    headers: Message
    body: bytes


class LoopbackServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # a killed client's connections end like that
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class FakeServer:
    """Sends what `route` makes of each request; several may come at once."""

    def __init__(self) -> None:
        self._server = LoopbackServer(("127.0.0.1", 0), partial(_Handler, self.route))
        self.port = self._server.server_port
        self.address = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def route(self, request: Request) -> Answer:
        raise NotImplementedError


def json_answer(value: object) -> Answer:
    return 200, {"Content-Type": "application/json"}, json.dumps(value).encode()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or a body waits 40 ms for the word that its headers came

    def __init__(self, route: Callable[[Request], Answer], *arguments: Any) -> None:
        self._route = route
        super().__init__(*arguments)

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status, given, content = self._route(Request(self.command, self.path, self.headers, body))
        headers = {"Content-Length": str(len(content)), **given}
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
        # An answer that promises more than it sends ends with its connection.
        self.close_connection = self.close_connection or int(headers["Content-Length"]) > len(content)

    do_GET = do_POST = do_PATCH = do_DELETE = _answer

    def log_message(self, *_: object) -> None:
        """Say nothing: a test asserts on what it finds."""
