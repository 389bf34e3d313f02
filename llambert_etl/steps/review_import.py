"""Import a review: take people's answers, say how far they agree, and make gold of what they agree on."""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import polars as pl
import pyarrow as pa

from llambert_etl.config import LabellingTask, fingerprint
from llambert_etl.corpus.documents import as_of
from llambert_etl.corpus.forgotten import refuse_forgotten, refuse_rows
from llambert_etl.corpus.gold import known_gold, refuse_other_source, split_of
from llambert_etl.errors import DataError
from llambert_etl.lake import Lake, StagedFiles, collect
from llambert_etl.manifest import Manifest
from llambert_etl.pages import render, report_name
from llambert_etl.partition import Partition, day_before
from llambert_etl.reviews.agreement import report
from llambert_etl.reviews.answers import Given, Returned, read_answers
from llambert_etl.reviews.reviewed import Key, Reviewed, Stratum, reviewed_as_of
from llambert_etl.run import Run
from llambert_etl.schemas import TABLES
from llambert_etl.wording import printable, short, shown

logger = logging.getLogger(__name__)

_STEP = "review import"
# As many faults as a person mends in one go.
_MAX_FAULTS = 20

Row = dict[str, object]


def import_review(run: Run, files: Sequence[Path], *, lake: Lake) -> Manifest:
    """Keep the answers under `partition`, and make its gold what people agree on; the same files change nothing.

    An annotator's later answer about a document wins. Raise DataError with every fault of the files, each with its row
    and its fix, and with nothing written. Cut off between answers and gold, the same call finishes it.
    """
    task, partition = run.task, run.partition
    refuse_other_source(task, lake, partition, _STEP)
    reply = read_answers(files, task.label_names)
    known = reviewed_as_of(lake, task.name, partition)
    found = _Matcher(task, partition, lake, known).match(reply)
    if reply.faults:
        more = len(reply.faults) - _MAX_FAULTS
        shown = "; ".join(reply.faults[:_MAX_FAULTS]) + (f"; and {more} more" if more > 0 else "")
        raise DataError(f"review {task.name} {partition}: nothing was imported: {shown}")
    fresh = [(key, given) for key, given in found if not _repeats(known[key], given)]
    counts = {"new": len(fresh), "repeated": len(found) - len(fresh)}
    manifest = run.manifest(
        _STEP,
        rows={"read": sum(counts.values()) + reply.unanswered + reply.skipped, **counts}
        | {"unanswered": reply.unanswered, "skipped": reply.skipped},
        facts={"files": [printable(file.name) for file in files]},
    )
    written: dict[str, int] = {}
    if fresh:
        answers = _answers(fresh, run)
        still = partial(refuse_rows, "reviews", task.name, partition, [key.id for key, _ in fresh], lake)
        done = lake.append_once("reviews", task.name, partition, answers, manifest=manifest, still=still)
        written["reviews"] = done.version
    rounds = {known[key].partition for key, _ in found}
    return run.finished(_Gold(run, lake).settle(manifest, rounds, written))


def _repeats(known: Reviewed, given: Given) -> bool:
    return any((each.annotator, each.answer) == (given.annotator, given.answer) for each in known.answers)


class _Matcher:
    """Finds the question that each answer belongs to, or what is wrong with it."""

    def __init__(self, task: LabellingTask, partition: Partition, lake: Lake, known: Mapping[Key, Reviewed]) -> None:
        self._task, self._partition, self._lake = task, partition, lake
        self._asked: dict[str, list[Reviewed]] = {}
        for each in sorted(known.values(), key=lambda each: each.partition, reverse=True):
            self._asked.setdefault(each.key.id, []).append(each)

    def match(self, reply: Returned) -> list[tuple[Key, Given]]:
        """Return the answers that fit; add what does not to `reply.faults`."""
        hashes = self._current({given.id for given in reply.answers})
        found = []
        for given in reply.answers:
            matched = self._question(given, hashes.get(given.id))
            if isinstance(matched, str):
                reply.faults.append(f"{given.place}: {matched}")
            else:
                found.append((matched.key, given))
        return found

    def _question(self, given: Given, current: str | None) -> Reviewed | str:
        asked = self._asked.get(given.id, [])
        fits = [each for each in asked if given.text_hash in (None, each.key.text_hash)]
        if current is None:
            return f"no document {short(given.id)} as of {self._partition}; give the id as exported, or remove the row"
        if not asked:
            return (
                f"document {short(given.id)} was never exported as of {self._partition}; export it, or remove the row"
            )
        if not fits or fits[0].key.text_hash != current:
            return f"the text of {short(given.id)} is not the one that was exported; remove the row and export again"
        held = next((each for each in fits[0].answers if each.annotator == given.annotator), None)
        if held is not None and held.partition == self._partition and held.answer != given.answer:
            return (
                f"{shown(given.annotator)} answered {short(given.id)} with {held.answer!r} on this day before; "
                "import a changed mind under a later day"
            )
        return fits[0]

    def _current(self, ids: set[str]) -> dict[str, str]:
        """Return the text hash of each document as of the partition."""
        wanted = pl.LazyFrame({"id": sorted(ids)}, schema={"id": pl.String})
        documents = as_of(self._lake, self._task.name, self._partition)
        return dict(collect(documents.join(wanted, on="id", how="semi").select("id", "text_hash")).iter_rows())


def _answers(fresh: Sequence[tuple[Key, Given]], run: Run) -> pa.Table:
    empty = dict.fromkeys(TABLES["reviews"].schema.names)
    fixed = {**empty, "task": run.task.name, "partition": str(run.partition), "run": run.name}
    rows = [
        {
            **fixed,
            "id": key.id,
            "text_hash": key.text_hash,
            "annotator": given.annotator,
            "answer": given.answer,
            "labelled_at": given.labelled_at,
        }
        for key, given in fresh
    ]
    return pa.Table.from_pylist(rows, schema=TABLES["reviews"].schema)


class _Gold:
    """Makes a day's gold what people agreed on about the documents that were answered on it."""

    def __init__(self, run: Run, lake: Lake) -> None:
        self._task, self._partition, self._run, self._lake = run.task, run.partition, run.name, lake

    def settle(self, manifest: Manifest, rounds: set[Partition], written: dict[str, int]) -> Manifest:
        """Return the manifest with the report on the exports that the files belong to."""
        # Before the answers are read: who imports others meanwhile has replaced what this would be replacing.
        before = self._lake.commit_key("gold", self._task.name, self._partition)
        reviewed = reviewed_as_of(self._lake, self._task.name, self._partition)
        here = [each for each in reviewed.values() if each.verdict and self._answered_here(each)]
        found = {row["id"]: (change, row) for change, row in self._rows(here)}
        rows = [row for _, row in found.values()]
        gold = dict(Counter(f"{change} {row['split']}" for change, row in found.values()))
        facts = report([each for each in reviewed.values() if each.partition in rounds])
        facts = facts.model_copy(update={"exports": sorted(rounds), "gold": gold})
        page = render("review.html", task=self._task, partition=self._partition, run=self._run, facts=facts)
        name = report_name("review", self._run)
        where = self._lake.write_report(self._task.name, self._partition, name, page)
        manifest = manifest.telling(facts.model_copy(update={"report": where}))
        key = fingerprint([_STEP, [[str(value) for name, value in row.items() if name != "run"] for row in rows]])
        held = self._lake.holds("gold", self._task.name, self._partition, key)
        if not held and (rows or before is not None):
            chunk = pa.Table.from_pylist(rows, schema=TABLES["gold"].schema)
            staged = self._lake.stage("gold", self._task.name, self._partition, [chunk], name="review")
            counts = {"read": len(rows), **Counter(str(row["split"]) for row in rows)}
            commit = self._lake.replace_partition(
                "gold",
                self._task.name,
                self._partition,
                StagedFiles(files=staged.files, replaces=before),
                commit_key=key,
                manifest=manifest.model_copy(update={"rows": counts}),
                still=partial(refuse_forgotten, "gold", self._task.name, self._partition, staged, self._lake),
            )
            written = {**written, "gold": commit.version}
            logger.info("gold %s %s: %s rows agreed on", self._task.name, self._partition, len(rows))
        return manifest.model_copy(update={"versions_written": written})

    def _answered_here(self, each: Reviewed) -> bool:
        return any(answer.partition == self._partition for answer in each.answers)

    def _rows(self, agreed: Sequence[Reviewed]) -> Iterator[tuple[str, Row]]:
        """Yield the gold rows, each with what it changes.

        A text that is gold keeps its ids and sides; its label becomes what people say. Only a document of the random
        share may come to the test side: the others were chosen for being difficult, and a test of those would measure
        something else.
        """
        gold = known_gold(self._task, self._lake, day_before(self._partition))
        sides = dict(gold.select("id", "split").iter_rows())
        texts = self._texts({each.key.text_hash for each in agreed})
        for each in sorted(agreed, key=lambda each: (each.partition, each.key)):
            known = gold.filter(pl.col("text_hash") == each.key.text_hash).to_dicts()
            for row in known:
                change = "confirmed" if row["label"] == each.verdict else "corrected"
                yield change, self._row(each, row["id"], row["text"], row["split"])
            if not known and each.key.text_hash in texts:
                fair = Stratum.RANDOM in each.strata
                side = sides.get(each.key.id) or split_of(each.key.id) if fair else "train"
                yield "new", self._row(each, each.key.id, texts[each.key.text_hash], side)

    def _texts(self, hashes: set[str]) -> dict[str, str]:
        wanted = pl.LazyFrame({"text_hash": sorted(hashes)}, schema={"text_hash": pl.String})
        documents = self._lake.scan("documents", self._task.name, upto=self._partition)
        found = collect(documents.join(wanted, on="text_hash", how="semi").select("text_hash", "text"))
        return dict(found.filter(pl.col("text").is_not_null()).iter_rows())

    def _row(self, each: Reviewed, key: str, text: str, split: str) -> Row:
        agreeing = [answer for answer in each.answers if answer.answer == each.verdict]
        moments = [answer.labelled_at for answer in agreeing if answer.labelled_at is not None]
        return {
            "task": self._task.name,
            "partition": str(self._partition),
            "id": key,
            "text": text,
            "text_hash": each.key.text_hash,
            "label": each.verdict,
            "split": split,
            "annotator": ", ".join(answer.annotator for answer in agreeing),
            "labelled_at": max(moments, default=None),
            "run": self._run,
        }
