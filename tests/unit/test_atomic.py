"""A file of a local lake that is changed by several at once; on S3, `test_snapshots` races real exports."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from llambert_etl.settings import Settings
from llambert_etl.store.atomic import edit_file


def test_no_change_is_lost(tmp_path: Path) -> None:
    def count(_: int) -> bytes:
        return edit_file("exports/count", lambda old: str(int(old or 0) + 1).encode(), Settings(lake=str(tmp_path)))

    with ThreadPoolExecutor(8) as pool:
        seen = {int(content) for content in pool.map(count, range(100))}
    assert seen == set(range(1, 101))
    assert {path.name for path in (tmp_path / "exports").iterdir()} == {"count", "count.lock"}
