"""The phases of one scenario on a real Airflow: each goes on where the one before has ended."""

import datetime
from collections.abc import Iterator

import pytest

from laptop import Stack
from laptop.airflow import Airflow
from laptop.airflow_client import Run
from laptop.demo.data import DAYS, Review, drop_files, read_corpus
from laptop.stack import REPOSITORY
from llambert_etl.config import find_task
from tests.airflow.loop import (
    FIRST,
    FOURTH,
    GOLD,
    HISTORY,
    KINDS,
    NEW_TEXTS,
    PER_DAY,
    SAMPLE,
    SECOND,
    TASK,
    THIRD,
    Loop,
    Moment,
    gold_of,
    lines_of,
    of,
)
from tests.models.encoders import crafted

A_MOMENT = datetime.timedelta(seconds=15)


@pytest.fixture(scope="session")
def corpus() -> list[Review]:
    """Reviews with a text of their own each, in a seeded order."""
    return list({review.text.strip(): review for review in read_corpus(REPOSITORY / ".models")}.values())


@pytest.fixture(scope="session")
def loop(stack: Stack, airflow: Airflow, corpus: list[Review]) -> Iterator[Loop]:
    with airflow.client() as client:
        loop = Loop(stack, client)
        loop.lake.create_tables()
        include = loop.settings.include
        template = "{% for example in examples -%}\nReview: {{ example.text }}\nSentiment: {{ example.label }}\n\n"
        (include / "prompts/reviews.j2").write_text(template + "{% endfor -%}\nReview: {{ text }}\nSentiment:\n")
        gold_of(corpus[-GOLD:]).write_parquet(include / f"gold/{TASK}.parquet")
        loop.write_task()
        yield loop
        for kind in KINDS:
            client.pause(f"{TASK}__{kind}")


@pytest.fixture(scope="session")
def history(loop: Loop, corpus: list[Review]) -> Moment:
    """A backfill loads two days and the schedule the third, with training held back: nothing is labelled yet."""
    for number, day in enumerate((FIRST, SECOND)):
        loop.drop(day, lines_of(corpus[number * PER_DAY : (number + 1) * PER_DAY]))
    third = corpus[2 * PER_DAY : 3 * PER_DAY]
    for name, lines in drop_files(find_task(loop.settings.include, TASK), DAYS[-1], third).items():
        loop.drop(THIRD, lines, name)

    dags = {f"{TASK}__{kind}" for kind in KINDS}
    loop.client.wait_for("the Dags", lambda: dags <= loop.client.dags(), deadline=90)
    assert loop.client.import_errors() == {}
    for kind in ("label", "ingest", "relabel"):
        loop.client.unpause(f"{TASK}__{kind}")
    loop.examples.run("ingest a range of days", **{"2026-11-10": FIRST, "2026-11-12": SECOND})
    keyless = {f"{kind}_without_key": loop.trigger(kind, None) for kind in ("ingest", "label")}
    loop.red |= {run.run_id for run in keyless.values()}
    runs = loop.until(
        "three days of documents",
        lambda runs: all(of(runs, kind, day) for kind in ("ingest", "label") for day in HISTORY),
    )
    return loop.moment(runs, **keyless)


@pytest.fixture(scope="session")
def crowned(loop: Loop, history: Moment) -> Moment:
    """Ingest of the third day is asked to train: one retrain, its champion, and every day labelled."""
    loop.client.unpause(f"{TASK}__retrain")
    forced = loop.trigger("ingest", THIRD, force_retrain=True)
    runs = loop.until(
        "a champion, and the labels of three days",
        lambda runs: loop.registry.champion(TASK) is not None and all(loop.published(day) for day in HISTORY),
        deadline=550,
    )
    return loop.moment(runs, forced=forced)


@pytest.fixture(scope="session")
def second_night(loop: Loop, crowned: Moment, corpus: list[Review]) -> Moment:
    """A new day arrives, with one text that is known already, while all days before are asked for again."""
    first = corpus[0]
    fresh = corpus[3 * PER_DAY : 3 * PER_DAY + NEW_TEXTS]
    loop.drop(FOURTH, lines_of([*fresh, first._replace(id="again")]))
    night = loop.example("ingest one day", **{"2026-11-10": FOURTH})
    loop.client.backfill(f"{TASK}__ingest", FIRST, THIRD, reprocess="completed")

    def reached(runs: list[Run]) -> bool:
        again = all(len(of(runs, "label", day)) > len(crowned.runs_of("label", day)) for day in HISTORY)
        return again and bool(loop.published(FOURTH))

    return loop.moment(loop.until("the second night", reached), night=night)


@pytest.fixture(scope="session")
def refused(loop: Loop, second_night: Moment, tmp_path_factory: pytest.TempPathFactory) -> Moment:
    """A day is labelled by a version that gives one label to every text; another day's drop is replaced by rubbish."""
    champion = second_night.champion
    assert champion
    loop.registry.register(
        TASK,
        FIRST,
        run_key="by-hand",
        folder=crafted(tmp_path_factory.mktemp("crafted"), "positive"),
        labels=champion.labels,
        params={"strategy": "gold"},
        metrics=champion.metrics,
        config_hash=champion.config_hash,
    )
    loop.write_task(approval=True)  # of which Airflow must have heard before the next retrain
    loop.drop(FOURTH, [b'{"id": "x"}'] * 5)
    red = {
        "label": loop.example("label one day", **{"2026-11-10": FIRST}),
        "ingest": loop.trigger("ingest", FOURTH),
    }
    loop.red |= {run.run_id for run in red.values()}
    return loop.moment(loop.until("two refusals", lambda runs: True), **red)


@pytest.fixture(scope="session")
def mended(loop: Loop, refused: Moment, corpus: list[Review]) -> Moment:
    """The rubbish is replaced, and a range that holds days of which there is nothing is labelled again."""
    fresh = corpus[3 * PER_DAY : 3 * PER_DAY + NEW_TEXTS]
    loop.drop(FOURTH, lines_of([*fresh, corpus[0]._replace(id="again")]))
    loop.trigger("ingest", FOURTH)
    relabel = loop.example("label a range", **{"2026-11-10": "2020-01-01", "2026-11-12": SECOND})
    runs = loop.until(
        "the days of the range",
        lambda runs: all(len(of(runs, "label", day)) > len(refused.runs_of("label", day)) for day in (FIRST, SECOND)),
    )
    return loop.moment(runs, relabel=relabel)


@pytest.fixture(scope="session")
def approved(loop: Loop, mended: Moment) -> Moment:
    """The alias is moved by hand to the version that knows one label; a retrain asks whether to put that right."""
    loop.registry.set_champion(TASK, 2)
    dag = f"dags/{TASK}__retrain"
    loop.client.wait_for(
        "the Dag with its question",
        lambda: any(step["task_id"] == "approve" for step in loop.client.request("GET", f"{dag}/tasks")["tasks"]),
        deadline=90,
    )
    retrain = loop.example("retrain", **{"2026-11-10": THIRD, "2000": str(SAMPLE)})
    pending = f"{dag}/dagRuns/~/hitlDetails?response_received=false"

    def answered() -> bool:
        """Answer as often as it asks, as late as a person: answered at once, the task may be taken for lost."""
        steps = loop.steps(retrain)
        if any(step.state in ("up_for_retry", "failed") for name, step in steps.items() if name != "approve"):
            pytest.fail(loop.why(retrain), pytrace=False)
        questions = loop.client.request("GET", pending)["hitl_details"]
        asked = [datetime.datetime.fromisoformat(question["created_at"]) for question in questions]
        if asked and datetime.datetime.now(datetime.UTC) - asked[0] > A_MOMENT:
            loop.examples.run("approve")
        return "approve" in steps and steps["approve"].state == "success"

    loop.client.wait_for("the approval", answered, deadline=500)
    runs = loop.until("the promotion", lambda runs: len(of(runs, "label", THIRD)) > len(mended.runs_of("label", THIRD)))
    return loop.moment(runs, retrain=retrain)
