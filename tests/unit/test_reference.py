"""The reference page says what the code says."""

import pytest
from pydantic import BaseModel

from laptop.stack import REPOSITORY
from llambert_etl.config import LabellingTask
from llambert_etl.settings import Settings
from llambert_etl.studies.plan import StudyPlan
from tests.reference import page, parts


def test_the_page_is_up_to_date() -> None:
    written = (REPOSITORY / "docs" / "reference.md").read_text(encoding="utf-8")
    assert written == page(), "write it again: .venv/bin/python -m tests.reference > docs/reference.md"


@pytest.mark.parametrize("model", [Settings, LabellingTask, StudyPlan])
def test_every_field_is_described(model: type[BaseModel]) -> None:
    fields = [(part, name, field) for part in parts(model) for name, field in part.model_fields.items()]
    assert [f"{part.__name__}.{name}" for part, name, field in fields if not field.description] == []
