"""What the images of docker/ say must suit the user that they run as: there is no Docker here to try it."""

import re
from pathlib import Path

import pytest

DOCKER = Path(__file__).parents[2] / "docker"


@pytest.mark.parametrize(("image", "writable"), [("airflow", "/home/airflow/"), ("worker", "/tmp/")])  # noqa: S108
def test_the_user_of_an_image_may_write_its_state(image: str, writable: str) -> None:
    said = re.search(r"LLAMBERT_STATE=(\S+)", (DOCKER / f"{image}.Dockerfile").read_text())
    assert said
    assert said[1].startswith(writable)
