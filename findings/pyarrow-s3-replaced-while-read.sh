#!/usr/bin/env bash
# pyarrow.fs.S3FileSystem.open_input_stream(...).read(): what does it give of an object that somebody replaces at that moment?
#
# One would guess: the old object or the new one, whole, for S3 answers each request from one version, and a reader of a small file
# needs one request. But Arrow asks twice: for the size when the file is opened, and for so many bytes when it is read, without
# saying of which version. If a longer object came in between, its beginning is returned, cut at the old length, and nothing is
# raised: a JSON document that does not parse, or, worse, the number 10 read as 1. `metadata()` of the stream still tells the old
# ETag and length, so only a second look (the same ETag once more after the read) shows what has happened.
#
# The server here is twenty lines of Python's http.server that hold one object, so the replacement comes at the same moment each
# time; on a real store two writers and a reader of one key suffice.
#
# Exits with 1 if that has changed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "pyarrow==25.0.1"

env -u http_proxy -u HTTP_PROXY "$folder/venv/bin/python" - <<'PYTHON'
import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pyarrow as pa
import pyarrow.fs

OLD, NEW = b"9", b"10"
held = [OLD]
asked = []


class Store(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, body: bytes) -> None:
        start, _, end = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
        part = body[int(start) : int(end) + 1 if end else None]
        self.send_response(206 if "Range" in self.headers else 200)
        self.send_header("Content-Length", str(len(part)))
        self.send_header("ETag", f'"{hashlib.md5(body).hexdigest()}"')
        self.send_header("Last-Modified", "Mon, 02 Nov 2026 10:00:00 GMT")
        self.end_headers()
        asked.append((self.command, self.headers.get("Range"), self.headers.get("If-Match")))
        if self.command == "GET":
            self.wfile.write(part)

    def do_HEAD(self) -> None:
        self.answer(held[0])

    def do_GET(self) -> None:
        self.answer(held[0])

    def log_message(self, *_: object) -> None:
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Store)
threading.Thread(target=server.serve_forever, daemon=True).start()
filesystem = pyarrow.fs.S3FileSystem(
    access_key="any", secret_key="any", region="any", endpoint_override=f"127.0.0.1:{server.server_port}", scheme="http"
)
print("pyarrow", pa.__version__)
with filesystem.open_input_stream("bucket/number") as stream:
    held[0] = NEW  # another writer's PUT, whole and answered
    found = stream.read()
    told = stream.metadata()
print(f"requests (method, range, condition): {asked}")
print(f"before {OLD!r}, now {NEW!r}, read {found!r}; the stream tells {told}")
assert hashlib.md5(OLD).hexdigest() in str(told), "the stream tells the new ETag"
assert [method for method, _, _ in asked] == ["HEAD", "GET"]
assert asked[1][2] is None, "the read is tied to the version that was opened"
assert found == b"1", "one of the two objects, whole"
PYTHON
