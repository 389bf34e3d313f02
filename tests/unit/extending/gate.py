"""A gate: how long the shortest text of a day must be."""

from collections.abc import Mapping

from pydantic import Field

from llambert_etl.config import LabellingTask
from llambert_etl.config.task import Gates
from llambert_etl.quality.profile import Profile
from llambert_etl.quality.suites import Expectation


class LongerGates(Gates):
    """The gates of today and one more; the hash of a file that leaves it out is what it was."""

    min_chars: int | None = Field(
        default=None,
        gt=0,
        exclude_if=lambda value: value is None,
        description="characters that each text of a day must have; none where left out",
    )


def long_enough(task: LabellingTask, profile: Profile, gold: Mapping[str, float]) -> list[Expectation]:
    least = task.gates.min_chars
    if least is None:
        return []
    expected = f">= {least} (gates.min_chars)"
    arguments: dict[str, object] = {"min_value": least}
    return [Expectation("shortest text", expected, "ExpectColumnValuesToBeBetween", "rows", "text_chars", arguments)]
