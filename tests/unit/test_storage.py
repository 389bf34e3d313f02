"""Plain files in a folder: what a listing says while others write."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from llambert_etl.store.storage import Storage


def test_a_folder_can_be_listed_while_another_writer_makes_it(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path), {})

    def write(number: int) -> None:
        storage.write(f"models/{number}/files.json", [b"{}"])

    with ThreadPoolExecutor(1) as writer:
        for number in range(500):
            written = writer.submit(write, number)
            while not written.done():
                assert all(info.base_name.startswith("files.json") for info in storage.list(f"models/{number}"))
            written.result()
            assert [info.base_name for info in storage.list(f"models/{number}")] == ["files.json"]
    assert storage.list("nothing") == []
