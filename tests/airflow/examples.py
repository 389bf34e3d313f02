"""The REST examples of docs/airflow.md, run as they stand but for the names and days that they speak of."""

import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from laptop.airflow import Airflow

DOCUMENT = Path(__file__).parents[2] / "docs" / "airflow.md"
TASK = "movie_sentiment"


class Examples:
    """`run` are the titles of those that were run."""

    def __init__(self, airflow: Airflow, task: str) -> None:
        self._task, self._names, self.ran = task, dict[str, Any](), set[str]()
        blocks = re.findall(r"```python\n# (.*?)\n(.*?)```", DOCUMENT.read_text(), flags=re.DOTALL)
        self.code = dict(blocks)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AIRFLOW_URL", airflow.url)
            patch.setenv("AIRFLOW_USER", airflow.username)
            patch.setenv("AIRFLOW_PASSWORD", airflow.password)
            self.run("log in")

    def run(self, start: str, **others: str) -> dict[str, Any]:
        """Run the example whose title starts so, with other values in place of its own; return what it has named."""
        (title,) = [title for title in self.code if title.startswith(start)]
        code = self.code[title].replace(TASK, self._task)
        for value, other in others.items():
            assert value in code
            code = code.replace(value, other)
        try:
            exec(compile(code, str(DOCUMENT), "exec"), self._names)  # noqa: S102 - our own document
        except httpx.HTTPStatusError as error:
            if error.response.status_code < httpx.codes.INTERNAL_SERVER_ERROR:
                raise
            exec(compile(code, str(DOCUMENT), "exec"), self._names)  # noqa: S102 - SQLite, under load
        self.ran.add(title)
        return self._names
