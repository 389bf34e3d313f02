"""A chat's webhook on loopback: what is posted there is kept, and every post is answered alike."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

PATH = "/services/T0/B0/only-who-knows-this-may-post"


class Webhook:
    """`texts` are the posts so far; `address` is the secret."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.texts: list[str] = []
        self.address = f"http://127.0.0.1:{server.server_port}{PATH}"


@contextmanager
def webhook(status: int = 200) -> Iterator[Webhook]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path == PATH:
                hook.texts.append(body["text"])
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hook = Webhook(server)
        Thread(target=server.serve_forever, daemon=True).start()
        yield hook
        server.shutdown()
