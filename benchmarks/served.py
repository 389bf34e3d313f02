"""How busy does `annotate` keep a server that is slow now and then; and how busy does an earlier commit keep it?"""

import argparse
import heapq
import json
import multiprocessing
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.evidence import EVIDENCE, write
from benchmarks.scale import DAY, OURS, TASK, Cost, Tree, landing_file, peer, run_command, world
from benchmarks.timing import interleaved

_SEED = 7
_FAST, _SLOW, _SHARE_OF_SLOW = 0.2, 2.0, 0.05
_LOCAL = "annotator: {model: meta-llama/Llama-2-7b-chat-hf, revision: f5db02db724555f92da89c216ac04704f23d4590, "
_SERVED = "annotator: {server: fake, model: fake-1, method: generate, "
_TURNS = "{% block user %}{{ text }}{% endblock %}"

Times = list[tuple[float, float]]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.served", description=__doc__)
    parser.add_argument("--documents", type=int, default=1600, help="default: %(default)s")
    parser.add_argument("--concurrency", type=int, default=16, help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=EVIDENCE, help="folder of served.json")
    arguments = parser.parse_args()
    with peer() as earlier:
        results = measure([OURS, earlier], arguments.documents, arguments.concurrency, arguments.rounds)
    write("served", seeds=[_SEED], results=results, out=arguments.out)


def measure(trees: Sequence[Tree], documents: int, concurrency: int, rounds: int) -> dict[str, object]:
    found: dict[str, list[dict[str, float]]] = {tree.name: [] for tree in trees}

    def run(tree: Tree) -> None:
        times, cost = annotated(tree, documents, concurrency)
        took = max(end for _, end in times) - min(start for start, _ in times)
        share = possible([_seconds(number) for number in range(len(times))], concurrency) / took
        slower = sum(end - start for start, end in times) / sum(map(_seconds, range(len(times))))
        found[tree.name].append(
            {
                "seconds": round(took, 2),
                "share_of_possible": round(share, 3),
                "answers_took_times": round(slower, 3),  # 1 on a machine with nothing else to do
                "cpu_seconds": round(cost.cpu_seconds, 1),
            }
        )

    interleaved({tree.name: lambda tree=tree: run(tree) for tree in trees}, rounds)  # type: ignore[misc]
    return {
        "documents": documents,
        "concurrency": concurrency,
        "seconds_of_an_answer": {"most": _FAST, "others": _SLOW, "share_of_others": _SHARE_OF_SLOW},
        "trees": {
            name: {
                "median_share_of_possible": statistics.median(each["share_of_possible"] for each in runs),
                "rounds": runs,
            }
            for name, runs in found.items()
        },
    }


def annotated(tree: Tree, documents: int, concurrency: int) -> tuple[Times, Cost]:
    """Let a tree annotate a corpus of its own; return when each request came and was answered, and what it cost."""
    with tempfile.TemporaryDirectory() as folder, _server() as (url, times):
        environment = _served(Path(folder), world(Path(folder)), documents, url, concurrency)
        for step in ("ingest", "annotate"):
            cost = run_command(tree, environment, step, "--task", TASK, "--partition", DAY)
        found: Times = times()
    if len(found) != documents:
        raise SystemExit(f"{tree.name}: {len(found)} requests about {documents} documents")
    return found, cost


def possible(seconds: Sequence[float], concurrency: int) -> float:
    """Return how long so many slots take at least, in this order: each asks again as soon as it is answered."""
    free = [0.0] * concurrency
    for each in seconds:
        heapq.heapreplace(free, free[0] + each)
    return max(free)


def _served(
    folder: Path, environment: Mapping[str, str], documents: int, url: str, concurrency: int
) -> Mapping[str, str]:
    """Change the task of a world into one that asks the server about all of its documents."""
    landing_file(folder, documents)
    task = folder / "include" / "tasks" / f"{TASK}.yaml"
    fields = task.read_text(encoding="utf-8")
    served = fields.replace(_LOCAL, _SERVED).replace("sample: 10000", f"sample: {documents}")
    if _SERVED not in served:
        raise SystemExit(f"{task}: has another annotator than this benchmark replaces")
    task.write_text(served, encoding="utf-8")
    (folder / "include" / "prompts" / f"{TASK}.j2").write_text(_TURNS, encoding="utf-8")
    server = {"LLAMBERT_SERVERS__FAKE__URL": url, "LLAMBERT_SERVERS__FAKE__CONCURRENCY": str(concurrency)}
    return {**environment, **server}


def _seconds(number: int) -> float:
    """Return how long the answer to the request of a number takes, the same in each round."""
    slow = random.Random(f"{_SEED} {number}").random() < _SHARE_OF_SLOW  # noqa: S311
    return _SLOW if slow else _FAST


@contextmanager
def _server() -> Iterator[tuple[str, Any]]:
    """Serve from a process of its own; the second value asks it for its times."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    theirs.close()  # so that the end of a server that could not start is told

    def times() -> Times:
        ours.send(None)
        found: Times = ours.recv()
        return found

    try:
        yield f"http://127.0.0.1:{ours.recv()}/v1", times
    finally:
        process.terminate()
        process.join()


class _Answering(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or an answer's body waits 40 ms for the client's word that its headers came
    times: ClassVar[Times] = []
    lock = threading.Lock()

    def do_POST(self) -> None:
        came = time.monotonic()
        with self.lock:
            number = len(self.times)
            self.times.append((came, came))
        self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(_seconds(number))
        message = {"role": "assistant", "content": "positive"}
        usage = {"prompt_tokens": 20, "completion_tokens": 1}
        answer = {"model": "fake", "choices": [{"message": message, "finish_reason": "stop"}], "usage": usage}
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        self.times[number] = came, time.monotonic()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _Loopback(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


def _serve(pipe: Connection) -> None:
    server = _Loopback(("127.0.0.1", 0), _Answering)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    pipe.send(server.server_port)
    pipe.recv()
    pipe.send(_Answering.times)


if __name__ == "__main__":
    main()
