"""A SQL warehouse on a real PostgreSQL: a partition is replaced whole or not at all, whatever races or is killed."""

import itertools
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest
import yaml

from laptop.environment import variables
from llambert_etl.errors import ConfigError, TransientError
from llambert_etl.exports.published import find_published, published_rows
from llambert_etl.exports.warehouse import BOOKS, write_warehouse
from llambert_etl.lake import Lake
from llambert_etl.partition import Partition
from llambert_etl.settings import Settings
from tests.given.exporting import TABLE, WAREHOUSE, Office, exporting, wait_until, warehouse_rows
from tests.given.labelling import DAY, NEXT
from tests.given.tasks import make_task, task_fields
from tests.processes.forks import Fork, llambert
from tests.processes.postgres import Database, Postgres

TEXTS = ("good a", "bad b", 'odd "c"\n\\N \u00fc')


@pytest.fixture
def office(settings: Settings, tmp_path: Path, database: Database) -> Office:
    lake = Lake(str(tmp_path / "lake"))
    lake.create_tables()
    office = Office(
        lake, Settings.model_validate({**settings.model_dump(exclude_unset=True), "lake": lake.uri}), WAREHOUSE
    )
    office.connect(database.uri)
    return office


def test_the_table_holds_each_published_label_once(office: Office, database: Database) -> None:
    office.label(*TEXTS)
    office.label("next", day=NEXT)
    manifest = office.export()
    office.export(NEXT)
    assert warehouse_rows(database) == office.published()
    assert warehouse_rows(database, NEXT) == office.published(NEXT)
    assert manifest.facts["exports"] == {f"warehouse/{TABLE}": "exported"}
    row = database.rows(f"SELECT task, text_hash <> '', confidence > 0.5, model_name FROM {TABLE} WHERE id = '{DAY}-0'")
    assert row == [("reviews", True, True, "llambert.reviews")]
    columns = "table_name, task, partition::text, labels_version, model_version, rows, run"
    books = database.rows(f"SELECT {columns} FROM {BOOKS} ORDER BY partition")
    assert books[0] == (TABLE, "reviews", DAY, manifest.versions_read["labels"], 1, 3, "r1")


def test_exporting_again_touches_no_row_and_new_labels_replace_those_of_their_day_alone(
    office: Office, database: Database
) -> None:
    office.label(*TEXTS)
    office.label("next", day=NEXT)
    office.export()
    office.export(NEXT)
    written = f"SELECT xmin::text, id FROM {TABLE} ORDER BY id"
    before = database.rows(written)
    assert office.outcome() == "held"
    assert database.rows(written) == before
    office.label()
    assert office.outcome() == "exported"
    assert warehouse_rows(database) == office.published()
    assert [row for row in before if row[1].startswith(NEXT)] == database.rows(written)[3:]


def test_tasks_share_a_table_and_leave_each_other_alone(office: Office, database: Database) -> None:
    office.label(*TEXTS)
    office.export()
    office.task = make_task(name="others", export=WAREHOUSE)
    office.label("other a")
    office.export()
    assert database.rows(f"SELECT task, count(*) FROM {TABLE} GROUP BY task ORDER BY task") == [
        ("others", 1),
        ("reviews", 3),
    ]


def test_days_that_are_exported_at_once_into_an_empty_database_all_arrive(office: Office, database: Database) -> None:
    days = [Partition(f"2026-10-{number:02}") for number in range(1, 9)]
    for day in days:
        office.publish(day)
    with ThreadPoolExecutor(len(days)) as pool:
        list(pool.map(office.export, days))
    assert database.rows(f"SELECT partition::text FROM {TABLE} ORDER BY 1") == [(day,) for day in days]


def test_what_fails_where_rows_come_from_is_not_told_of_the_database(office: Office, database: Database) -> None:
    office.label(*TEXTS)
    published = find_published(office.lake, "reviews", DAY)
    assert published is not None

    def rows() -> Iterator[pa.RecordBatch]:
        yield from itertools.islice(published_rows(office.lake, published, office.settings.state), 1)
        raise LookupError("a bug of ours")

    with pytest.raises(LookupError, match="a bug of ours"):
        office.bring(published, rows())
    assert office.outcome() == "exported"


def test_of_two_exports_of_a_day_at_once_the_newer_labels_stay(office: Office, database: Database) -> None:
    office.label(*TEXTS)
    older = find_published(office.lake, "reviews", DAY)
    assert older is not None
    rows = list(published_rows(office.lake, older, office.settings.state))
    office.label()
    newer = find_published(office.lake, "reviews", DAY)
    assert newer is not None
    fresh = list(published_rows(office.lake, newer, office.settings.state))
    (place,) = office.task.export
    for _ in range(5):
        with ThreadPoolExecutor(4) as pool:
            written = [
                pool.submit(
                    write_warehouse, place, published, batches, run="r", lake=office.lake, settings=office.settings
                )
                for published, batches in [(older, rows), (newer, fresh)] * 2
            ]
        assert {each.result() for each in written} <= {"exported", "held", "newer"}
        assert warehouse_rows(database) == office.published()
        database.run(f"DROP TABLE {TABLE}")


def test_an_exporter_that_is_killed_half_way_leaves_the_rows_of_before(
    office: Office, database: Database, tmp_path: Path
) -> None:
    office.label(*TEXTS)
    office.export()
    before = warehouse_rows(database)
    office.label("new a")
    with _held_before_its_end(database), Fork(exporting, office.task, office.settings, log=tmp_path / "log") as fork:
        wait_until(database.waiting)  # the old rows are deleted and the new ones written, in its transaction
        fork.send(signal.SIGKILL)
        fork.wait()
        assert warehouse_rows(database) == before
    assert office.outcome() == "exported"
    assert warehouse_rows(database) == office.published() != before


def test_a_server_that_is_killed_half_way_costs_another_try_and_nothing_else(
    office: Office, database: Database, postgres: Postgres, tmp_path: Path
) -> None:
    office.label(*TEXTS)
    office.export()
    before = warehouse_rows(database)
    office.label("new a")
    with _held_before_its_end(database), Fork(exporting, office.task, office.settings, log=tmp_path / "log") as fork:
        wait_until(database.waiting)
        for backend in database.waiting():
            backend.kill()  # upon which PostgreSQL ends every session and recovers from its log
        assert fork.wait() == TransientError.exit_code, fork.last_words
    wait_until(postgres.answers)
    assert warehouse_rows(database) == before
    assert office.outcome() == "exported"
    assert warehouse_rows(database) == office.published()


def _held_before_its_end(database: Database):
    """Keep exporters from noting what they have written, which is the last that they do before they commit."""
    return database.holding(f"LOCK TABLE {BOOKS} IN SHARE MODE")


def test_a_table_that_somebody_dropped_is_filled_again(office: Office, database: Database) -> None:
    office.label(*TEXTS)
    office.export()
    database.run(f"DROP TABLE {TABLE}")
    assert office.outcome() == "exported"
    assert warehouse_rows(database) == office.published()


def test_a_schema_of_its_own_and_any_case_are_kept(office: Office, database: Database) -> None:
    database.run('CREATE SCHEMA "Marts"')
    office.task = make_task(export={"connection": "warehouse", "table": "Marts.Labels"})
    office.label(*TEXTS)
    office.export()
    assert warehouse_rows(database, table='"Marts"."Labels"') == office.published()
    assert len(database.rows(f'SELECT * FROM "Marts".{BOOKS}')) == 1


@pytest.mark.parametrize("made", ["(id text)", "(task text, partition text, id text, text text, label text, mine int)"])
def test_a_table_with_other_columns_is_named_and_left_alone(office: Office, database: Database, made: str) -> None:
    database.run(f"CREATE TABLE {TABLE} {made}", f"INSERT INTO {TABLE} DEFAULT VALUES")
    office.label(*TEXTS)
    with pytest.raises(ConfigError, match=r"table 'review_labels' has the columns .*expected .*'partition': 'date'"):
        office.export()
    assert len(database.rows(f"SELECT * FROM {TABLE}")) == 1


def test_a_user_without_rights_is_told_so(office: Office, database: Database, postgres: Postgres) -> None:
    database.run("CREATE ROLE guest LOGIN PASSWORD 'guest'")
    office.connect(database.uri.replace(f"postgres:{postgres.password}", "guest:guest"))
    office.label(*TEXTS)
    with pytest.raises(ConfigError, match="connection 'warehouse': permission denied for schema public"):
        office.export()


def test_a_warehouse_that_is_down_is_worth_another_try_and_one_that_refuses_is_not(
    office: Office, postgres: Postgres
) -> None:
    office.label(*TEXTS)
    office.connect(f"postgresql://u:s3cret@127.0.0.1:{postgres.port + 1}/db")
    with pytest.raises(TransientError, match="connection 'warehouse': Connection refused") as down:
        office.export()
    for uri, said in {postgres.uri(password="s3cret"): "password", postgres.uri("absent"): "does not exist"}.items():
        office.connect(uri)
        with pytest.raises(ConfigError, match=f"refused: .*{said}.*LLAMBERT_CONNECTIONS__WAREHOUSE"):
            office.export()
    assert "s3cret" not in str(down.value)


def test_the_command_ends_with_the_code_that_airflow_reads_and_tells_no_secret(
    office: Office, database: Database, postgres: Postgres, tmp_path: Path
) -> None:
    office.label(*TEXTS)
    tasks = office.settings.include / "tasks"
    tasks.mkdir()
    (tasks / "reviews.yaml").write_text(yaml.safe_dump({**task_fields(), "export": WAREHOUSE}, sort_keys=False))
    down = database.uri.replace(f":{postgres.port}/", f":{postgres.port + 1}/")
    log = tmp_path / "log"
    for uri, code in ((down, 75), (postgres.uri("absent"), 78), (database.uri, 0)):
        office.connect(uri)
        argv = ["export", "--task", "reviews", "--partition", DAY, "--run", "nightly"]
        with llambert(argv, log=log, environment=variables(office.settings)) as command:
            assert command.wait() == code, command.last_words
    assert command.manifest["facts"]["exports"] == {f"warehouse/{TABLE}": "exported"}
    assert postgres.password not in log.read_text() + log.with_suffix(".out").read_text()


def test_both_places_of_an_export_are_served_and_the_one_that_holds_it_is_left_alone(
    office: Office, database: Database, postgres: Postgres
) -> None:
    office.task = make_task(export=["parquet", WAREHOUSE])
    office.label(*TEXTS)
    office.connect(postgres.uri("absent"))
    with pytest.raises(ConfigError):
        office.export()
    assert office.snapshot() == office.published()
    office.connect(database.uri)
    assert office.export().facts["exports"] == {"parquet": "held", f"warehouse/{TABLE}": "exported"}
    assert warehouse_rows(database) == office.published()
