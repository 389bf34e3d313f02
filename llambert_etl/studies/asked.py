"""The studies that ask: prompts and annotators, about gold that none of the prompts shows as an example."""

import time
from dataclasses import dataclass, replace

import polars as pl
from pydantic import BaseModel

from llambert_etl.annotation.asking import answer
from llambert_etl.annotation.backlog import Backlog
from llambert_etl.config import LabellingTask, StudyKind, fingerprint
from llambert_etl.corpus.documents import hash_text
from llambert_etl.corpus.sampling import draw
from llambert_etl.errors import ConfigError, DataError
from llambert_etl.lake import Tables, collect
from llambert_etl.llm.annotators import open_annotator
from llambert_etl.llm.prompts import prompt_hash
from llambert_etl.llm.spending import Spending
from llambert_etl.schemas import AnnotationStatus
from llambert_etl.studies import findings
from llambert_etl.studies.data import read_gold
from llambert_etl.studies.subject import Progress, Result, Subject
from llambert_etl.studies.summary import Details, Scored

ASKED: tuple[StudyKind, ...] = ("prompts", "annotators")


@dataclass(frozen=True)
class Variant:
    """A way of asking: `task` differs from the studied one in its prompt or in its annotator alone."""

    series: str
    x: float | None
    task: LabellingTask


class Cost(BaseModel, frozen=True, extra="forbid"):
    """What a variant took for each document that it was asked about."""

    seconds: float
    tokens: float
    usd: float


def ask(kind: StudyKind, subject: Subject, tables: Tables, progress: Progress) -> Result:
    """Ask every variant about the same gold; what was answered before, by another run meanwhile too, never again."""
    variants = _prompts(subject) if kind == "prompts" else _annotators(subject)
    exam = _Exam(subject, tables, progress)
    n = subject.plan.prompts.documents if kind == "prompts" else subject.plan.annotators.documents
    documents = exam.documents("train", n)
    answers = [exam.answers(variant, documents) for variant in variants]
    outcomes = [exam.outcome(variant, said) for variant, said in zip(variants, answers, strict=True)]
    found: findings.Findings = {}
    if kind == "prompts":
        best = max(zip(variants, outcomes, strict=True), key=lambda pair: pair[1].accuracy)[0]
        tested = exam.documents("test", n)
        own = Variant("the task's own prompt", None, subject.task)
        found = findings.of_prompts(best.series, best.x, exam.answers(best, tested), exam.answers(own, tested))
    return Result(outcomes, found, dict(exam.rows), exam.tokens, exam.usd)


def _prompts(subject: Subject) -> list[Variant]:
    """Vary template and shots; the shots are the first of the task's examples."""
    task, plan = subject.task, subject.plan.prompts
    given = task.prompt.examples
    shots = plan.shots or list(range(len(given) + 1))
    if not task.annotator.asks:
        raise ConfigError(
            f"study of {task.name}: prompts cannot be compared by annotator.recorded, whose replies were given to one "
            "prompt; name a model or a server that can be asked"
        )
    if max(shots) > len(given):
        raise DataError(
            f"study of {task.name}: {max(shots)} shots are to be studied, but the task file has {len(given)} examples; "
            "add examples to it, or mend prompts.shots of the study"
        )
    prompts = [
        (template, count, task.prompt.model_copy(update={"template": template, "examples": given[:count]}))
        for template in plan.templates or [task.prompt.template]
        for count in shots
    ]
    return [
        Variant(template.removesuffix(".j2"), float(count), task.model_copy(update={"prompt": prompt}))
        for template, count, prompt in prompts
    ]


def _annotators(subject: Subject) -> list[Variant]:
    """Put the plan's annotators beside the task's own."""
    task, others = subject.task, subject.plan.annotators.compare
    if task.annotator.model in others:
        raise ConfigError(
            f"study of {task.name}: annotators.compare: {task.annotator.model!r} is the name of the task's own "
            "annotator, which is always compared; give the other one another name"
        )
    compared = {task.annotator.model: task.annotator, **others}
    return [Variant(name, None, task.model_copy(update={"annotator": other})) for name, other in compared.items()]


class _Exam:
    """The gold that variants are asked about, and what asking has come to so far."""

    def __init__(self, subject: Subject, tables: Tables, progress: Progress) -> None:
        self._subject, self._progress = subject, progress
        self.rows = {"read": 0, "asked": 0, "answered_before": 0}
        self.tokens, self.usd = 0, 0.0
        shown = [hash_text(example.text) for example in subject.task.prompt.examples]
        gold = read_gold(subject.task, subject.partition, tables)
        self._gold = gold.filter(~pl.col("text_hash").is_in(shown))

    def documents(self, split: str, n: int) -> pl.DataFrame:
        """Draw documents of a split: `train` to compare by, `test` to say how good the choice is."""
        rows = draw(self._gold.filter(pl.col("split") == split), n, self._subject.plan.seeds[0])
        if rows.is_empty():
            raise DataError(
                f"study of {self._subject.task.name}: no gold {split} rows to ask about as of "
                f"{self._subject.partition}, the prompt's examples left out; run `llambert gold import`"
            )
        return rows

    def answers(self, variant: Variant, documents: pl.DataFrame) -> pl.DataFrame:
        """Return the documents with what the variant `said` of each: null where that was no label."""
        subject, task = self._subject, variant.task
        annotator, hashed = open_annotator(task, subject.settings), prompt_hash(task, subject.settings.include)
        spending, started = Spending.load(task, subject.settings), time.monotonic()
        work = Backlog(
            replace(subject.run, task=task),
            lake=subject.lake,
            annotator=annotator,
            prompt_hash=hashed,
            spending=spending,
            sample=documents.height,
            chosen=documents,
            step="study",
        )
        answer(work, annotator, self._progress)
        spent = spending.tokens_in + spending.tokens_out
        self.rows["read"] += documents.height
        self.rows["asked"] += work.asked
        self.rows["answered_before"] += documents.height - work.asked
        self.tokens, self.usd = self.tokens + spent, self.usd + spending.usd
        if work.asked and self._cost(task) is None:
            seconds = (time.monotonic() - started) / work.asked
            self._keep(task, Cost(seconds=seconds, tokens=spent / work.asked, usd=spending.usd / work.asked))
        labelled = work.answered().filter(pl.col("status") == AnnotationStatus.LABELLED)
        said = collect(labelled.select("text_hash", said="label"))
        return documents.join(said, on="text_hash", how="left")

    def outcome(self, variant: Variant, answers: pl.DataFrame) -> Scored:
        from sklearn.metrics import f1_score

        truth, said = answers["label"].to_list(), answers["said"].fill_null("").to_list()
        f1 = f1_score(truth, said, labels=list(variant.task.labels), average="macro", zero_division=0)
        details: Details = {"unparsed, %": 100 * answers["said"].null_count() / answers.height}
        if (cost := self._cost(variant.task)) is not None:
            details |= {"seconds each": cost.seconds, "tokens each": cost.tokens, "USD for 1,000": 1000 * cost.usd}
        return Scored(variant.series, variant.x, None, findings.right(answers), float(f1), answers.height, details)

    def _keep(self, task: LabellingTask, cost: Cost) -> None:
        self._subject.lake.storage.write(self._cost_key(task), [cost.model_dump_json().encode()])

    def _cost(self, task: LabellingTask) -> Cost | None:
        found = self._subject.lake.storage.read(self._cost_key(task))
        return None if found is None else Cost.model_validate_json(found)

    def _cost_key(self, task: LabellingTask) -> str:
        question = [prompt_hash(task, self._subject.settings.include), task.annotator.model, task.annotator.revision]
        return f"_studies/{task.name}/{fingerprint(question)}.json"
