"""Data Docs: one page that opens offline. No script, no address outside, no text of a document."""

import re
from dataclasses import dataclass
from typing import Any

import jinja2
from markupsafe import Markup

from llambert_etl.config import LabellingTask
from llambert_etl.partition import Partition
from llambert_etl.quality.profile import Profile, shares
from llambert_etl.quality.validation import Validation

# Great Expectations' own pages load Bootstrap, icons and charts from a CDN. Their tables are kept, and the few
# classes that those use are styled here.
_CSS = """
:root { --ink: #1b2733; --soft: #5b6876; --line: #d9dfe5; --ground: #f6f8fa; --good: #18794e; --bad: #b42318;
  --warn: #8a5a00; --bar: #3b6ea8; --mark: #b9c6d3; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 15px/1.5 system-ui, "Segoe UI", sans-serif; }
main { max-width: 1040px; margin: 0 auto; padding: 32px 24px 64px; }
h1 { font-size: 26px; line-height: 1.25; margin: 8px 0 4px; }
h2 { font-size: 18px; margin: 32px 0 10px; }
h5, h6 { font-size: 14px; margin: 0; }
.verdict { display: inline-block; padding: 3px 12px; border-radius: 4px; color: #fff; font-weight: 600; }
.pass { background: var(--good); } .fail { background: var(--bad); }
.meta { color: var(--soft); margin: 0; overflow-wrap: anywhere; }
table { width: 100%; border-collapse: collapse; background: #fff; border: 1px solid var(--line); }
th, td { text-align: left; vertical-align: top; padding: 7px 12px; border-bottom: 1px solid var(--line);
  overflow-wrap: anywhere; }
th { font-weight: 600; color: var(--soft); background: #eef2f5; }
td.state { width: 96px; font-weight: 600; white-space: nowrap; }
.ok { color: var(--good); } .failed { color: var(--bad); } .warned { color: var(--warn); }
tr.bad td { background: #fdf1f0; } tr.warn td { background: #fdf7e8; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
.bar { display: block; height: 9px; background: var(--bar); min-width: 1px; }
.bar + .bar { margin-top: 3px; background: var(--mark); }
.key { display: inline-block; width: 10px; height: 10px; background: var(--bar); }
.key.then { background: var(--mark); }
details { background: #fff; border: 1px solid var(--line); margin-top: 32px; padding: 10px 14px; }
summary { font-weight: 600; cursor: pointer; }
.ge-section { margin-top: 14px; } .alert-secondary { padding: 4px 0; }
.text-success::before { content: "\\2713"; color: var(--good); font-style: normal; }
.text-danger::before { content: "\\2717"; color: var(--bad); font-style: normal; }
.text-warning::before { content: "!"; color: var(--warn); font-style: normal; }
.ge-section th:first-child { width: 84px; } .ge-section th:nth-child(2) { width: 60%; }
.cooltip .top { display: none; }
"""

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ 'PASSED' if passed else 'FAILED' }}: {{ gate }} of {{ task.name }} {{ partition }}</title>
<style>{{ css }}</style>
</head>
<body><main>
<span class="verdict {{ 'pass' if passed else 'fail' }}">{{ 'PASSED' if passed else 'FAILED' }}</span>
<h1>{{ task.name }} &middot; {{ partition }} &middot; gate on {{ gate }}</h1>
<p class="meta">{{ task.description }}</p>
<p class="meta">run {{ run }} &middot; task file {{ task.config_hash }} &middot; owner {{ task.owner }}</p>

<h2>{{ outcomes | length }} expectations, {{ failed }} failed</h2>
<table>
<thead><tr><th>Verdict</th><th>Expectation</th><th>Observed</th><th>Expected</th></tr></thead>
<tbody>
{% for o in outcomes %}
<tr class="{{ 'bad' if o.stops else ('' if o.passed else 'warn') }}">
<td class="state {{ 'ok' if o.passed else ('failed' if o.stops else 'warned') }}">
{{- '✓ passed' if o.passed else ('✗ failed' if o.stops else '! warning') }}</td>
<td>{{ o.name }}</td><td>{{ o.observed }}</td><td>{{ o.expected }}</td></tr>
{% endfor %}
{% for name, why in skipped.items() %}
<tr><td class="state meta">skipped</td><td>{{ name }}</td><td colspan="2" class="meta">{{ why }}</td></tr>
{% endfor %}
</tbody></table>

{% if bars %}
<h2>Label shares</h2>
<table>
<thead><tr><th>Label</th><th class="number">Rows</th><th class="number">Share</th>
{% if reference %}<th class="number">Reference</th>{% endif %}
<th style="width: 40%"><span class="key"></span> here
{% if reference %}&ensp;<span class="key then"></span> {{ reference.source }}{% endif %}</th></tr></thead>
<tbody>
{% for b in bars %}
<tr><td>{{ b.label }}</td><td class="number">{{ "{:,}".format(b.rows) }}</td>
<td class="number">{{ "%.1f" | format(100 * b.share) }} %</td>
{% if reference %}<td class="number">{{ "%.1f" | format(100 * b.then) }} %</td>{% endif %}
<td><span class="bar" style="width: {{ "%.2f" | format(100 * b.share) }}%"></span>
{%- if reference %}<span class="bar" style="width: {{ "%.2f" | format(100 * b.then) }}%"></span>{% endif %}</td></tr>
{% endfor %}
</tbody></table>
{% endif %}

<h2>Rows</h2>
<table><tbody>
{% for name, count in rows.items() %}
<tr><td>{{ name }}</td><td class="number">{{ "{:,}".format(count) }}</td></tr>
{% endfor %}
</tbody></table>

<details><summary>Great Expectations, column by column</summary>
{{ sections }}
</details>
</main></body></html>
"""


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
    page = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(_PAGE)
    return page.render(
        css=Markup(_CSS),  # noqa: S704 - our own constant
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
