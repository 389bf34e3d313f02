"""Tables of another version's columns: new ones are added, differing ones refused, unknown ones left alone."""

from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, Field, write_deltalake
from deltalake.schema import PrimitiveType

from llambert_etl.errors import ConfigError
from llambert_etl.lake import Lake
from llambert_etl.lake.definitions import PARTITION_COLUMNS
from llambert_etl.schemas import TABLES
from llambert_etl.settings import Settings
from llambert_etl.steps.doctor import doctor
from tests.given.documents import TASK, append, content, documents, replace


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


def written_as(lake: Lake, schema: pa.Schema) -> None:
    """Write `documents` as a version does that has other columns."""
    uri = lake.table_uri("documents")
    DeltaTable.create(uri, schema, partition_by=PARTITION_COLUMNS)
    write_deltalake(uri, documents("a").select(schema.names).cast(schema), mode="append")
    lake.create_tables()


def test_a_column_that_is_new_is_asked_for_and_added(lake: Lake) -> None:
    declared = TABLES["documents"].schema
    written_as(lake, declared.remove(declared.get_field_index("place")))
    for use in (content, lambda lake: append(lake, "b"), lambda lake: replace(lake, "b")):
        with pytest.raises(ConfigError, match=r"documents: .*without the columns \['place'\]: run `llambert init`"):
            use(lake)
    lake.add_columns()
    lake.add_columns()
    assert lake.scan("documents", TASK).collect().select("id", "place").rows() == [("a", None)]
    append(lake, "b")
    assert content(lake) == "ab"
    replace(lake, "c")
    assert content(lake) == "c"


def test_a_column_of_another_type_is_refused(lake: Lake) -> None:
    declared = TABLES["documents"].schema
    at = declared.get_field_index("place")
    written_as(lake, declared.set(at, pa.field("place", pa.int64())))
    for use in (content, lambda lake: append(lake, "b"), Lake.add_columns):
        with pytest.raises(ConfigError, match="'place' is int64 there and string in this version of llambert"):
            use(lake)


def test_a_column_of_a_later_version_is_left_alone(lake: Lake) -> None:
    lake.create_tables()
    lake.open("documents").alter.add_columns([Field("language", PrimitiveType("string"))])
    append(lake, "a")
    assert content(lake) == "a"
    replace(lake, "bc")
    assert content(lake) == "bc"
    assert "language" in [field.name for field in lake.open("documents").schema().fields]


def test_the_doctor_tells_of_a_column_that_is_new(lake: Lake, tmp_path: Path) -> None:
    declared = TABLES["documents"].schema
    written_as(lake, declared.remove(declared.get_field_index("place")))
    (found,) = (
        each for each in doctor(Settings(lake=lake.uri, state=tmp_path, include=tmp_path)) if each.what == "lake"
    )
    assert (found.ok, "run `llambert init`" in found.seen) == (False, True)
