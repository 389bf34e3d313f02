"""Data Docs: one page that opens offline. No script, no address outside, no text of a document."""

import re
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from llambert_etl import pages
from llambert_etl.config import LabellingTask
from llambert_etl.partition import Partition
from llambert_etl.quality.profile import Profile, shares
from llambert_etl.quality.validation import Validation


@dataclass(frozen=True)
class _Bar:
    label: str
    rows: int
    share: float
    then: float


def render(
    task: LabellingTask,
    partition: Partition,
    run: str,
    profile: Profile,
    validation: Validation,
    skipped: dict[str, str],
) -> str:
    """Return the page: verdict, observed beside expected, label shares, then Great Expectations' own tables."""
    ordered = sorted(validation.outcomes, key=lambda outcome: (outcome.passed, not outcome.stops))
    rows = {**profile.outcomes, **{f"reason: {reason}": count for reason, count in profile.reasons.items()}}
    return pages.render(
        "gate.html",
        gate=profile.kind,
        task=task,
        partition=partition,
        run=run,
        passed=not validation.failures,
        failed=len(validation.failures),
        outcomes=ordered,
        skipped=skipped,
        bars=_bars(profile),
        reference=profile.reference,
        rows={name.replace("_", " "): count for name, count in rows.items()},
        sections=Markup(_sections(validation)),  # noqa: S704 - escaped by its renderer
    )


def _bars(profile: Profile) -> list[_Bar]:
    then = shares(profile.reference.counts) if profile.reference else {}
    return [
        _Bar(label, profile.label_counts[label], share, then.get(label, 0.0))
        for label, share in profile.label_shares.items()
    ]


def _sections(validation: Validation) -> str:
    from great_expectations.render.renderer.page_renderer import ValidationResultsPageRenderer
    from great_expectations.render.view.view import DefaultJinjaSectionView

    document: dict[str, Any] = ValidationResultsPageRenderer().render(validation.result).to_json_dict()
    # The first section is an overview with links to pages that do not exist here.
    view: Any = DefaultJinjaSectionView()
    rendered = [
        view.render({"section": section, "section_loop": {"index": index}})
        for index, section in enumerate(document["sections"][1:], start=1)
    ]
    without_scripts = re.sub(r"<script\b.*?</script>", "", "".join(rendered), flags=re.DOTALL | re.IGNORECASE)
    return re.sub(r'\s(?:href|src)="[^"]*"', "", without_scripts)
