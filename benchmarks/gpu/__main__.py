"""How much of a GPU do labelling and annotating use, against transformers' pipeline and `generate`?"""

import argparse
import gc
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.evidence import EVIDENCE, write
from benchmarks.gpu import annotator, encoders
from benchmarks.gpu.rates import Scale
from benchmarks.gpu.shapes import ENCODERS, TINY, imdb_texts, tokenizer_of

_SEEDS = [5]


@dataclass(frozen=True)
class Size:
    encoders: dict[str, dict[str, int]]
    llama: dict[str, int]
    vocabularies: tuple[int, int]  # of the encoders' tokenizer, and of the Llama's
    rows: int
    compared: int
    documents: int
    rounds: int


_TINY = Size({"tiny": TINY}, TINY | {"vocab_size": 1_000}, (1_000, 1_000), rows=48, compared=32, documents=8, rounds=1)


def main(given: Sequence[str] | None = None) -> dict[str, object]:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--rows", type=int, default=16_000, help="texts that our engines label (default: %(default)s)")
    parser.add_argument("--compared", type=int, default=4_000, help="of these, for labels and the pipeline")
    parser.add_argument("--documents", type=int, default=600, help="prompts (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=2, help="default: %(default)s")
    parser.add_argument("--peak", type=float, default=790.0, help="TFLOP/s of bf16 (default: %(default)s, an H200)")
    parser.add_argument("--price", type=float, default=4.0, help="USD an hour (default: %(default)s)")
    parser.add_argument("--tiny", action="store_true", help="tiny shapes and few texts, on any device; writes nothing")
    parser.add_argument("--out", type=Path, default=EVIDENCE, help="folder of gpu.json")
    asked = parser.parse_args(given)
    if not asked.tiny and not torch.cuda.is_available():
        parser.error("here is no GPU; --tiny runs all of it on processors, with shapes that say nothing")
    size = _TINY if asked.tiny else _whole(asked)
    results: dict[str, object] = {"peak_tflops": asked.peak, "usd_per_hour": asked.price}
    for name, found in _parts(size, Scale(asked.peak, asked.price)):
        results[name] = found
        if not asked.tiny:  # part by part: the lease may end before the last
            write("gpu", seeds=_SEEDS, results=results, out=asked.out)
        _make_room()
    if asked.tiny:
        print(json.dumps(results, indent=2))
    return results


def _whole(asked: argparse.Namespace) -> Size:
    return Size(ENCODERS, {}, (50_000, 32_000), asked.rows, asked.compared, asked.documents, asked.rounds)


def _parts(size: Size, scale: Scale) -> Iterator[tuple[str, object]]:
    texts, source = imdb_texts(size.rows)
    yield "texts", source
    ours, llamas = (tokenizer_of(texts, vocabulary) for vocabulary in size.vocabularies)
    for name, shape in size.encoders.items():
        measured = encoders.measure(shape, ours, texts, compared=size.compared, rounds=size.rounds, scale=scale)
        yield name, measured
    few = texts[: size.documents]
    yield "Llama", annotator.measure(size.llama, llamas, few, rounds=size.rounds, scale=scale)


def _make_room() -> None:
    gc.collect()
    torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
