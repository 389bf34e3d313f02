"""How many bytes does a row take in the tables, beside an earlier commit?"""

import argparse
import tempfile
from pathlib import Path

from benchmarks.evidence import EVIDENCE, write
from benchmarks.scale import OURS, TASK, Tree, ingested, labelled, peer, safe, size

_SHARDS = 8
_TABLES = ("documents", "labels")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rows", description=__doc__)
    parser.add_argument("--rows", type=int, default=50_000, help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=EVIDENCE, help="folder of rows.json")
    arguments = parser.parse_args()
    with peer() as earlier, tempfile.TemporaryDirectory(prefix="llambert-rows-") as scratch:
        results = {tree.name: _bytes(Path(scratch) / safe(tree), tree, arguments.rows) for tree in (OURS, earlier)}
    write("rows", seeds=[5], results={"rows": arguments.rows, "shards": _SHARDS, **results}, out=arguments.out)


def _bytes(folder: Path, tree: Tree, rows: int) -> dict[str, float]:
    """Label with numbers as an encoder gives them, for their bytes depend on how many of them are alike."""
    environment = ingested(folder, tree, rows)
    labelled(tree, environment, _SHARDS, drawn=1)
    lake = Path(environment["LLAMBERT_LAKE"])
    return {table: round(size(lake / table / f"task={TASK}") / rows, 1) for table in _TABLES}


if __name__ == "__main__":
    main()
