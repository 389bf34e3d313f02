"""Documents from a database's table or view: the same cleaning and refusals as files, in one read-only statement."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import SecretStr

from llambert_etl.config.sources import TableSource
from llambert_etl.errors import ConfigError, DataError, TransientError
from llambert_etl.partition import Partition
from llambert_etl.settings import Settings
from llambert_etl.sources.table import TableDrop
from tests.given.landing import DAY, Landing
from tests.given.tasks import task_fields
from tests.processes.postgres import Database, Postgres

NEXT = "2026-11-11"
SOURCE = {"connection": "crm", "table": "reviews", "day": "written", "id": "review", "text": "Body"}


class Table(Landing):
    """A table of reviews where the landing folder would be."""

    def __init__(self, root: Path, database: Database) -> None:
        super().__init__(root)
        self.database = database
        self.settings = self.settings_with(database.uri)
        self.read_from()

    def settings_with(self, uri: str, sources: list[str] | None = None) -> Settings:
        granted = {"sources": sources or ["sql://crm"], "connections": {"crm": SecretStr(uri)}}
        return self.settings.model_copy(update=granted)

    def read_from(self, **changes: Any) -> None:
        self.task = type(self.task).model_validate({**task_fields(), "source": {**SOURCE, **changes}})

    def write(self, *rows: tuple[str, str | None, str]) -> None:
        for key, text, moment in rows:
            shown = "NULL" if text is None else f"'{text}'"
            self.database.run(f"INSERT INTO reviews VALUES ('{key}', {shown}, '{moment}')")


@pytest.fixture
def table(tmp_path: Path, database: Database) -> Table:
    database.run('CREATE TABLE reviews (review text, "Body" text, written timestamptz)')
    return Table(tmp_path, database)


def test_rows_of_the_utc_day_become_documents_and_refusals(table: Table) -> None:
    table.write(
        ("late", "The last of the day.", "2026-11-10 23:59:59.999+00"),
        ("early", "cafe\u0301", "2026-11-10 01:00:00+01"),
        ("before", "Yesterday.", "2026-11-10 00:59:59+01"),
        ("after", "Tomorrow.", "2026-11-11 00:00:00+00"),
        ("none", None, DAY),
        ("long", "x" * 100_001, DAY),
        ("twice", "One.", DAY),
        ("twice", "Two.", DAY),
    )
    manifest = table.ingest()
    assert manifest.rows == {"read": 6, "accepted": 3, "rejected": 3}
    assert manifest.reasons == {"id_conflict": 1, "text_not_text": 1, "text_too_long": 1}
    kept = table.rows().sort("place").select("id", "source", "place", "text")
    assert kept.row(0) == ("early", "sql://crm/reviews", "row 1", "caf\u00e9")
    assert table.accepted() == ["early", "late", "twice"]


def test_reading_the_same_rows_again_commits_nothing_and_reading_others_replaces_the_day(table: Table) -> None:
    table.write(("a", "Good.", DAY))
    table.ingest()
    version = table.lake.version("documents")
    again = table.ingest(run="again")
    assert (again.facts["replayed"], table.lake.version("documents")) == (True, version)
    table.write(("b", "Bad.", DAY))
    changed = table.ingest(run="changed")
    assert (changed.facts["replayed"], changed.facts["content_changed"]) == (False, True)
    assert table.accepted() == ["a", "b"]


def test_a_past_day_is_read_again_by_its_own_run_alone(table: Table) -> None:
    table.write(("a", "Good.", DAY))
    table.ingest()
    table.write(("late", "Late.", DAY), ("b", "Bad.", NEXT))
    assert table.ingest(NEXT).facts["late_partitions"] == []  # type: ignore[arg-type]
    assert table.accepted() == ["a"]
    table.ingest()
    assert table.accepted() == ["a", "late"]


def test_a_night_reads_the_days_since_the_last_on_which_nothing_ran(table: Table) -> None:
    days = [Partition(f"2026-11-{number:02}") for number in (9, 10, 11, 12)]
    table.write(*((str(day), "Good.", str(day)) for day in days if day != "2026-11-11"))
    table.ingest(days[0])
    manifest = table.ingest(days[-1], missed=True)
    assert manifest.facts["late_partitions"] == ["2026-11-10", "2026-11-11"]
    assert [table.accepted(day) for day in days] == [["2026-11-09"], ["2026-11-10"], [], ["2026-11-12"]]
    assert table.ingest(days[-1], missed=True, run="again").facts["late_partitions"] == []


def test_a_day_whose_rows_are_all_gone_keeps_its_documents(table: Table) -> None:
    table.write(("a", "Good.", DAY))
    table.ingest()
    table.database.run("DELETE FROM reviews")
    with pytest.raises(DataError, match="held 1 rows when it was last ingested"):
        table.ingest()
    assert table.accepted() == ["a"]


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("DROP TABLE reviews", r"sql://crm/reviews: no such table or view"),
        ('ALTER TABLE reviews DROP "Body"', r"no column 'Body', columns found \['review', 'written'\].*source\.text"),
        ("ALTER TABLE reviews RENAME written TO made", r"no column 'written', columns found .*'made'.*source\.day"),
        (
            "ALTER TABLE reviews ALTER review TYPE bytea USING NULL",
            r"column 'review' is bytea, expected .*convert_from\(.review., 'UTF8'\) .*encode\(.review., 'hex",
        ),
        (
            "ALTER TABLE reviews ALTER review TYPE numeric(9, 2) USING 0",
            r"column 'review' is numeric\(9,2\), .*a decimal without .* a view that casts it, by .review.::text",
        ),
        ("ALTER TABLE reviews ALTER review TYPE numeric USING 0", r"column 'review' is numeric, expected"),
        (
            'ALTER TABLE reviews ALTER "Body" TYPE float USING 0',
            r"column 'Body' is float8, expected a string; .*::text",
        ),
        ("ALTER TABLE reviews ALTER written TYPE text", r"column 'written' is text, .*by \"written\"::timestamptz"),
    ],
)
def test_a_table_that_has_changed_is_named_with_what_it_has_now(table: Table, statement: str, said: str) -> None:
    table.write(("a", "Good.", DAY))
    table.ingest()
    table.database.run(statement)
    with pytest.raises(DataError, match=said):
        table.ingest()
    assert table.accepted() == ["a"]


@pytest.mark.parametrize("kind", ["smallint", "integer", "bigint", "numeric(38, 0)", "uuid", "varchar(40)"])
def test_ids_of_every_usual_kind_are_read_as_text(table: Table, kind: str) -> None:
    key = {"uuid": "0d9a4a3e-5df1-4dc0-8a3b-6d1a3b9b9d4c", "numeric(38, 0)": "9" * 38}.get(kind, "7")
    table.database.run(f"ALTER TABLE reviews ALTER review TYPE {kind} USING '{key}'::{kind}")
    table.write((key, "Good.", DAY))
    table.ingest()
    assert table.accepted() == [key]


@pytest.mark.parametrize("kind", ["date", "timestamp"])
def test_a_day_without_a_time_zone_is_taken_as_utc(table: Table, kind: str) -> None:
    table.database.run(f"ALTER TABLE reviews ALTER written TYPE {kind}", "SET timezone TO 'Asia/Tokyo'")
    table.write(("a", "Good.", "2026-11-10 23:59:59"), ("b", "Good.", "2026-11-11 00:00:00"))
    table.ingest()
    assert table.accepted() == ["a"]


def test_the_statement_can_change_nothing_and_ends_in_time(table: Table) -> None:
    table.database.run(
        f"CREATE VIEW limits AS SELECT name AS review, setting AS \"Body\", DATE '{DAY}' AS written FROM pg_settings "
        "WHERE name IN ('transaction_read_only', 'statement_timeout', 'TimeZone', 'lock_timeout')"
    )
    table.read_from(table="limits")
    table.ingest()
    assert dict(table.rows().select("id", "text").iter_rows()) == {
        "transaction_read_only": "on",
        "statement_timeout": "3600000",
        "lock_timeout": "60000",
        "TimeZone": "UTC",
    }


@pytest.mark.parametrize("text", ["told in confidence", 'told "in" confidence,\nover two lines'])
def test_a_database_that_fails_at_a_row_does_not_show_it(table: Table, text: str) -> None:
    table.database.run(
        'CREATE VIEW numbers AS SELECT review, "Body"::int::text AS "Body", written FROM reviews',
        f"INSERT INTO reviews VALUES ('a', '{text}', '{DAY}')",
    )
    table.read_from(table="numbers")
    with pytest.raises(DataError, match="invalid input syntax for type integer") as refusal:
        table.ingest()
    assert "confidence" not in str(refusal.value)


def test_names_mean_only_themselves(table: Table) -> None:
    odd = "review'; DROP TABLE reviews; --"
    table.database.run(f'ALTER TABLE reviews RENAME review TO "{odd}"', "CREATE SCHEMA crm", "CREATE SCHEMA other")
    table.database.run("ALTER TABLE reviews SET SCHEMA crm", "CREATE TABLE other.reviews (id text)")
    table.database.run(f"INSERT INTO crm.reviews VALUES ('a', 'Good.', '{DAY}')")
    table.read_from(table="crm.reviews", id=odd)
    table.ingest()
    assert table.accepted() == ["a"]


def test_only_allowed_connections_and_tables_are_read(table: Table) -> None:
    uri = table.database.uri
    table.settings = table.settings_with(uri, ["/data", "sql://other", "sql://crm/other", "sql://cr"])
    with pytest.raises(
        ConfigError, match=r"source 'sql://crm/reviews' is not among LLAMBERT_SOURCES .*add 'sql://crm'"
    ):
        table.ingest()
    table.settings = table.settings_with(uri, ["sql://crm/reviews"])
    assert table.ingest().rows["read"] == 0


def test_a_connection_that_is_not_known_or_refuses_is_a_matter_of_configuration(
    table: Table, postgres: Postgres
) -> None:
    refusals = {
        postgres.uri(password="wrong"): "password authentication failed",
        postgres.uri("absent"): 'database "absent" does not exist',
        "postgresql://user:s3cret word@localhost/db": "its URI is not understood; mend LLAMBERT_CONNECTIONS__CRM",
    }
    for uri, said in refusals.items():
        table.settings = table.settings_with(uri)
        with pytest.raises(ConfigError, match=said) as refusal:
            table.ingest()
        assert "s3cret" not in repr(refusal.value) + repr(refusal.value.__cause__)
    table.settings = table.settings.model_copy(update={"connections": {}})
    with pytest.raises(ConfigError, match=r"connection 'crm': not known here.*LLAMBERT_CONNECTIONS__CRM"):
        table.ingest()


def test_a_database_that_is_down_or_goes_away_while_it_is_read_is_worth_another_try(
    table: Table, postgres: Postgres
) -> None:
    table.database.run(f"INSERT INTO reviews SELECT g, repeat('Good. ', 500), '{DAY}' FROM generate_series(1, 20000) g")
    rows = TableDrop(TableSource(**SOURCE), DAY, table.settings).rows()
    next(rows)
    table.database.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    with pytest.raises(TransientError, match="connection 'crm': broke off"):
        list(rows)
    table.settings = table.settings_with(f"postgresql://u:p@127.0.0.1:{postgres.port + 1}/db")
    with pytest.raises(TransientError, match="connection 'crm': Connection refused"):
        table.ingest()
    assert table.rows().height == 0


def test_a_database_that_keeps_bytes_for_texts_is_refused(tmp_path: Path, postgres: Postgres) -> None:
    database = postgres.create_database("bytes", "TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'")
    database.run('CREATE TABLE reviews (review text, "Body" text, written date)')
    with pytest.raises(DataError, match="sql://crm/reviews: its database has no encoding"):
        Table(tmp_path, database).ingest()


def test_reading_holds_a_batch_and_not_the_table(table: Table) -> None:
    table.database.run(
        f"INSERT INTO reviews SELECT g, repeat('x', 1000) || g, '{DAY}' FROM generate_series(1, 60000) g"
    )
    before = pa.total_allocated_bytes()
    peak = max(
        pa.total_allocated_bytes() - before for _ in TableDrop(TableSource(**SOURCE), DAY, table.settings).rows()
    )
    assert peak < 16 << 20
