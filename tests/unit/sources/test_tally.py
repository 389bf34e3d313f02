"""A drop comes to the lake in chunks that have a bound."""

import json
from pathlib import Path

from llambert_etl.corpus.forgotten import Forgotten
from llambert_etl.run import Run
from llambert_etl.sources.drops import open_drop
from llambert_etl.sources.tally import Tally
from tests.given.landing import DAY, Landing

MIB = 1 << 20


def test_a_chunk_is_bounded_in_bytes_whatever_the_script(tmp_path: Path) -> None:
    house = Landing(tmp_path)
    rows = [{"id": f"d{number}", "text": f"{number} " + "評" * 99_000} for number in range(120)]
    house.drop("a.jsonl", "\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode())
    drop = open_drop(house.task.source, DAY, house.settings)
    tally = Tally(Run(house.task, DAY, "r1"), Forgotten(house.lake, house.task.name))
    sizes = [chunk.nbytes for chunk in tally.chunks(drop)]
    assert (len(sizes), tally.rows["accepted"]) == (2, 120)
    assert max(sizes) < 33 * MIB
