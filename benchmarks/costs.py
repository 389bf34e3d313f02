"""The tables and the plot of docs/performance.md, from what `ingest`, `readers`, `nights` and `rows` have measured."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.evidence import EVIDENCE
from benchmarks.scale import OURS
from benchmarks.scale.trees import PEER
from laptop.stack import REPOSITORY

PAGE = REPOSITORY / "docs" / "performance.md"
PLOT = PAGE.with_suffix(".png")
_BETWEEN = re.compile(r"(?<=<!-- from docs/evidence -->\n).*?(?=<!-- to here -->)", re.DOTALL)
_MILLION = 1_000_000
_GIB = 1024**3 / 1e6
# What a label run does beside the model, in its order.
_RUN = {"plan": "plan", "label": "label, 8 shards", "check_labels": "check labels", "publish": "publish"}
_READ = {"check_documents": "check documents", "sample": "the sample of annotate", "export": "export to Parquet"}
_KINDS = {"jsonl.gz": "ingest, JSON lines", "parquet": "ingest, Parquet", "csv": "ingest, CSV"}

_NAMED = {OURS.name: "now", PEER: f"before ({PEER})"}

Costs = dict[str, float]  # CPU seconds, peak of anonymous memory, MB read
Step = dict[int, dict[str, Costs]]  # documents -> who did it -> cost


class Target(NamedTuple):
    """`found` must be at least `least`, or at most `most`."""

    figure: str
    found: float
    least: float = 0.0
    most: float = float("inf")

    @property
    def met(self) -> bool:
        return self.least <= self.found <= self.most

    def row(self) -> tuple[str, ...]:
        wanted = f"≥ {self.least:g}" if self.least else f"≤ {self.most:g}"
        return self.figure, wanted, f"{self.found:.2f}", "met" if self.met else "missed"


def main() -> None:
    PAGE.write_text(page(), encoding="utf-8")
    draw(steps(), PLOT)
    print(f"written: {PAGE}, {PLOT}")


def page() -> str:
    """Return the page with its tables made anew."""
    return _BETWEEN.sub(lambda _: tables(), PAGE.read_text(encoding="utf-8"))


def tables() -> str:
    found = steps()
    sizes = sorted({size for step in found.values() for size in step})
    parts: dict[str, Callable[[Costs, Costs], str]] = {
        "CPU seconds, now and before (times fewer)": _fewer,
        "Peak of anonymous memory in MB, now and before": partial(_two, "peak_mb"),
        "MB read, now and before": partial(_two, "read_mb"),
    }
    blocks = [_by_size(title, sizes, found, cell) for title, cell in parts.items()]
    aims = _table(("figure", "target", "measured", ""), [target.row() for target in targets()])
    return "\n" + "\n".join([_measured(), *blocks, _of_history(), _of_files(), _of_ingest(found), aims]) + "\n"


def steps() -> dict[str, Step]:
    """Return what each step costs, in the order of a night."""
    ingest, readers, nights = _results("ingest"), _results("readers"), _results("nights")
    found = {title: _sized(ingest[kind]) for kind, title in _KINDS.items()}
    days = _sized(readers["one day"])
    found |= {title: {size: day[step] for size, day in days.items()} for step, title in _READ.items()}
    for step, title in _RUN.items():
        found[title] = {
            size: {tree: costs[step] for tree, costs in day["8 shards"]["steps"].items()}
            for size, day in _sized(nights["day"]).items()
        }
    found["the label run"] = {size: day["8 shards"]["all"] for size, day in _sized(nights["day"]).items()}
    return found


def targets() -> list[Target]:
    found, readers, row, nights = steps(), _results("readers"), _results("rows"), _results("nights")
    jsonl, parquet, _ = (found[title][_MILLION] for title in _KINDS.values())
    made = [
        Target("ingest of 10^6 JSON lines: times fewer", _times(found[_KINDS["jsonl.gz"]]), 4),
        Target("ingest of 10^6 rows of Parquet: times fewer", _times(found[_KINDS["parquet"]]), 8),
        Target("ingest of 10^6 JSON lines, of DuckDB's", _fold(jsonl[OURS.name], jsonl["DuckDB"]), most=1.0),
        Target("export of 10^6 labels: times fewer", _times(found[_READ["export"]]), 5),
        Target("a sample from 10^6 documents: times fewer", _times(found[_READ["sample"]]), 5),
        Target("peak of any step at 10^6 documents, GiB", _peak(found) / _GIB, most=1.0),
        Target("a night on which nothing comes, of before", _fold(*_both(readers["an empty night"])), most=0.5),
        Target("bytes of a label row, of before", row[OURS.name]["labels"] / row[PEER]["labels"], most=0.6),
    ]
    if "datatrove" in jsonl:
        for title, costs in zip(_KINDS.values(), (jsonl, parquet), strict=False):
            made.append(
                Target(f"{title}, 10^6, of datatrove: times fewer", _fold(costs["datatrove"], costs[OURS.name]), 8)
            )
    return made + _targets_of_nights(found["the label run"], nights)


def _targets_of_nights(run: Step, nights: Mapping[str, Any]) -> list[Target]:
    night, log, many = nights["night"], nights["log"], nights["day"][str(_MILLION)]["64 shards"]["all"]
    empty, full = night[f"{OURS.name}, an empty lake"]["all"], night[f"{OURS.name}, on it"]["all"]
    return [
        Target("label run without inference, 10^6 documents, 8 shards: times fewer", _times(run), 8),
        Target("the same in 64 shards", _fold(many[PEER], many[OURS.name]), 12),
        Target("a night on a year of labels, of one on an empty lake", _fold(full, empty), most=1.3),
        Target("what that night reads, of one on an empty lake", full["read_mb"] / empty["read_mb"], most=3.0),
        Target("the log after `maintain`, of before", _log(log, OURS.name) / _log(log, PEER), most=0.25),
    ]


def draw(found: Mapping[str, Step], path: Path) -> None:
    """Draw CPU seconds over documents, both in powers of ten, a panel for each step."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6.5), layout="constrained")
    # Of ingests those that have a target.
    shown = [*list(_KINDS.values())[:2], *_READ.values(), "the label run"]
    styles = {OURS.name: ("C0", "-"), PEER: ("C1", "-"), "DuckDB": ("C2", "--"), "datatrove": ("C3", "--")}
    panels = list(figure.subplots(2, 3, sharex=True, sharey=True).flat)
    for axes, title in zip(panels, shown, strict=True):
        for who, (colour, line) in styles.items():
            points = [(size, costs[who]["cpu_seconds"]) for size, costs in sorted(found[title].items()) if who in costs]
            if points:
                axes.plot(
                    *zip(*points, strict=True), color=colour, linestyle=line, marker="o", label=_NAMED.get(who, who)
                )
        axes.set(title=title, xscale="log", yscale="log")
        axes.grid(alpha=0.3, which="both")
    figure.axes[0].legend()
    figure.supxlabel("documents")
    figure.supylabel("CPU seconds, from the start of the process")
    figure.savefig(path, dpi=110)


def _results(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((EVIDENCE / f"{name}.json").read_text(encoding="utf-8"))["results"]
    return found


def _measured() -> str:
    lines = []
    for name in ("ingest", "readers", "nights", "rows"):
        record = json.loads((EVIDENCE / f"{name}.json").read_text(encoding="utf-8"))
        machine = record["machine"]
        lines.append(
            f"`{name}.json`: commit `{record['commit'][:7]}`, measured on {record['date'][:10]} on {machine['cores']} "
            f"cores of an {machine['processor']}, for which {machine['load_1_minute']:.0f} processes waited at its end."
        )
    return "\n".join(lines) + "\n"


def _by_size(title: str, sizes: Sequence[int], found: Mapping[str, Step], cell: Callable[[Costs, Costs], str]) -> str:
    rows = [
        (name, *(cell(*_both(step[size])) if size in step else "" for size in sizes)) for name, step in found.items()
    ]
    return _table((title, *(f"{size:,} documents" for size in sizes)), rows)


def _of_history() -> str:
    """Return what grows with the days that were labelled before."""
    by_days = _results("readers")["days of 10000"]
    rows = [
        (f"`{step.replace('_', '-')}` after {days} days of 10,000", *_told(*_both(costs)))
        for step in ("status", "training_due")
        for days, costs in ((days, steps[step]) for days, steps in by_days.items())
    ]
    night = _results("nights")["night"]
    places = {"an empty lake": "an empty lake", f"{night['labels of a year']:,} labels of 365 days": "on it"}
    for title, place in places.items():
        costs = (night[f"{tree}, {place}"]["all"] for tree in (OURS.name, PEER))
        rows.append((f"a label run of {night['documents']:,} on {title}", *_told(*costs)))
    return _table(("after a history", "CPU seconds, now and before (times fewer)", "MB read, now and before"), rows)


def _of_files() -> str:
    row = _results("rows")
    rows = [(f"bytes of a row of `{table}`", f"{row[OURS.name][table]}", f"{row[PEER][table]}") for table in row[PEER]]
    return _table(("files", "now", "before"), rows + _of_log(_results("nights")))


def _of_log(nights: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    log, index = nights["log"], nights["night"]["bytes of the index of a row"]
    ours, theirs = log[OURS.name], log[PEER]
    after, halves = "mb_of_the_log_after_maintain", "cpu_ms_of_a_commit_in_each_half"
    return [
        ("bytes of the index by which known texts are found, for a row", f"{index:.1f}", ""),
        (f"MB of the log after {log['commits']:,} commits", f"{ours['mb_of_the_log']}", f"{theirs['mb_of_the_log']}"),
        ("MB of it after `maintain`, a year later", f"{ours[after]}", f"{theirs[after]}"),
        *(
            (f"CPU ms of a commit in the {half} half", f"{now}", f"{before}")
            for half, now, before in zip(("first", "second"), ours[halves], theirs[halves], strict=True)
        ),
    ]


def _told(ours: Costs, theirs: Costs) -> tuple[str, str]:
    return _fewer(ours, theirs), _two("read_mb", ours, theirs)


def _of_ingest(found: Mapping[str, Step]) -> str:
    others = [who for who in ("DuckDB", "datatrove") if who in found[_KINDS["parquet"]][_MILLION]]
    rows = []
    for title in _KINDS.values():
        costs = found[title][_MILLION]
        rows.append(
            (
                title,
                *(f"{costs[who]['cpu_seconds']:.1f} s, {costs[who]['peak_mb']:.0f} MB" for who in (OURS.name, *others)),
            )
        )
    return _table(("10^6 documents", "now", *others), rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n".replace("|  |", "| |") for line in lines)


def _sized(by_size: Mapping[str, Any]) -> dict[int, Any]:
    return {int(size): each for size, each in by_size.items()}


def _both(costs: Mapping[str, Costs]) -> tuple[Costs, Costs]:
    return costs[OURS.name], costs[PEER]


def _times(step: Step) -> float:
    ours, theirs = _both(step[_MILLION])
    return _fold(theirs, ours)


def _fold(more: Costs, less: Costs) -> float:
    return more["cpu_seconds"] / less["cpu_seconds"]


def _fewer(ours: Costs, theirs: Costs) -> str:
    return f"{ours['cpu_seconds']:.1f}, {theirs['cpu_seconds']:.1f} ({_fold(theirs, ours):.1f})"


def _two(figure: str, ours: Costs, theirs: Costs) -> str:
    return f"{ours[figure]:,.0f}, {theirs[figure]:,.0f}"


def _peak(found: Mapping[str, Step]) -> float:
    return max(step[_MILLION][OURS.name]["peak_mb"] for step in found.values())


def _log(log: Mapping[str, Any], tree: str) -> float:
    return float(log[tree]["mb_of_the_log_after_maintain"])


if __name__ == "__main__":
    main()
