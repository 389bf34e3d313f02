"""Annotate with a server: paid once, whatever is killed; stopped by its budget, and continued when that is raised."""

import os
import signal
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from llambert_etl.errors import ConfigError, DataError, TransientError
from llambert_etl.lake import Lake
from llambert_etl.settings import Settings
from tests.fakes.llm import ANSWER_TOKENS, FINGERPRINT, KEY, PROMPT_TOKENS, SNAPSHOT, FakeLlm, error
from tests.fakes.server import json_answer
from tests.given.served import MODEL, served_task, server
from tests.given.served_corpus import (
    ASKED_ONCE,
    BATCH,
    DOCUMENTS,
    PRICE,
    corpus_of,
    rows,
    run_annotate,
    settings,
    start,
)

TOKENS = PROMPT_TOKENS + ANSWER_TOKENS
USD = (PROMPT_TOKENS * PRICE.input + ANSWER_TOKENS * PRICE.output) / 1e6


@pytest.fixture
def here(llm: FakeLlm, tmp_path: Path) -> Settings:
    return settings(llm, tmp_path)


@pytest.fixture
def corpus(here: Settings) -> Lake:
    return corpus_of(here)


def test_rows_say_who_was_asked_and_the_manifest_what_answered_and_what_it_cost(
    corpus: Lake, here: Settings, llm: FakeLlm
) -> None:
    done = run_annotate(corpus, here, served_task())
    assert done.rows == {"read": 40, "labelled": 40, "unparsed": 0, "failed": 0, "reused": 0}
    assert {(row["model"], row["revision"], row["tokens"]) for row in rows(corpus)} == {(MODEL, "fake", TOKENS)}
    assert done.facts["answered_by"] == {f"{SNAPSHOT} {FINGERPRINT}": DOCUMENTS}
    assert (done.facts["tokens_in"], done.facts["tokens_out"]) == (40 * PROMPT_TOKENS, 40 * ANSWER_TOKENS)
    assert (done.tokens, done.cost) == (40 * TOKENS, pytest.approx(40 * USD))
    assert llm.asked == ASKED_ONCE


def test_another_snapshot_behind_the_same_name_is_not_asked_again(corpus: Lake, here: Settings, llm: FakeLlm) -> None:
    run_annotate(corpus, here, served_task())
    llm.say = lambda text: pytest.fail("asked again")
    assert run_annotate(corpus, here, served_task(), "r2").rows["reused"] == DOCUMENTS


def test_a_process_that_is_killed_has_paid_for_one_batch_that_is_paid_again(
    corpus: Lake, here: Settings, llm: FakeLlm
) -> None:
    llm.pause = 0.02
    with start(here) as killed:
        llm.wait_for(answers=3 * BATCH + 2)
        os.kill(killed.pid, signal.SIGKILL)
        killed.communicate()
    kept = len(rows(corpus))
    assert kept >= 2 * BATCH
    with start(here) as again:
        said = again.communicate(timeout=60)
    assert again.returncode == 0, said[1]
    assert len({row["text_hash"] for row in rows(corpus)}) == len(rows(corpus)) == DOCUMENTS
    twice = [text for text, times in llm.asked.items() if times > 1]
    assert set(llm.asked) == set(ASKED_ONCE)
    assert len(twice) <= BATCH
    assert max(llm.asked.values()) <= 2


def test_a_server_that_goes_down_half_way_through_a_batch_is_paid_once(
    corpus: Lake, here: Settings, llm: FakeLlm
) -> None:
    llm.fault = lambda text, nth: error(503) if llm.answered.total() >= BATCH + 3 else None
    with pytest.raises(TransientError, match="no answer about 5 of 8 documents"):
        run_annotate(corpus, here, served_task())
    assert Counter(row["status"] for row in rows(corpus)) == {"labelled": BATCH + 3, "failed": 5}
    llm.fault = lambda text, nth: None
    assert run_annotate(corpus, here, served_task()).rows["reused"] == BATCH + 3
    assert llm.answered == ASKED_ONCE


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [(429, "insufficient_quota", "no credit left"), (401, "invalid_api_key", "refuses the key")],
    ids=["no credit", "key withdrawn"],
)
def test_what_a_server_answered_before_it_refused_us_is_kept_and_no_more_is_asked(
    corpus: Lake, here: Settings, llm: FakeLlm, status: int, code: str, said: str
) -> None:
    one_at_a_time = here.model_copy(update={"servers": {"fake": server(llm.url, concurrency=1)}})
    llm.fault = lambda text, nth: error(status, code) if llm.answered.total() >= 6 else None
    with pytest.raises(ConfigError, match=f"{said}.*; 2 of 4 documents are left"):
        run_annotate(corpus, one_at_a_time, served_task())
    assert Counter(row["reason"] for row in rows(corpus)) == {None: 6, f"given_up {code}": 1, "given_up": 1}
    assert llm.asked.total() == 7
    llm.fault = lambda text, nth: None
    assert run_annotate(corpus, here, served_task()).rows["reused"] == 6
    assert llm.answered == ASKED_ONCE


@pytest.mark.parametrize("concurrency", [1, 2])
def test_answers_of_no_known_shape_are_kept_and_paid_once(
    corpus: Lake, here: Settings, llm: FakeLlm, concurrency: int
) -> None:
    few = here.model_copy(update={"servers": {"fake": server(llm.url, concurrency=concurrency)}})
    llm.fault = lambda text, nth: json_answer({"response": "positive"})
    with pytest.raises(ConfigError, match="answers otherwise than /chat/completions .an object of response"):
        run_annotate(corpus, few, served_task())
    assert Counter(row["reason"] for row in rows(corpus)) == {"unknown_answer": 8}
    llm.fault = lambda text, nth: None
    assert run_annotate(corpus, few, served_task()).rows["reused"] == 8
    assert llm.asked == ASKED_ONCE


def test_a_manifest_says_without_which_field_a_server_had_to_be_asked(
    corpus: Lake, here: Settings, llm: FakeLlm
) -> None:
    refused = error(403, message="You are not allowed to request logprobs from this model")
    one_at_a_time = here.model_copy(update={"servers": {"fake": server(llm.url, concurrency=1)}})
    llm.fault = lambda text, nth: refused if "logprobs" in llm.bodies[-1] else None
    done = run_annotate(corpus, one_at_a_time, served_task())
    assert done.facts["answered_by"] == {f"{SNAPSHOT} {FINGERPRINT}, asked without logprobs": DOCUMENTS}


def test_a_process_that_is_asked_to_stop_keeps_what_it_has_paid_for(corpus: Lake, here: Settings, llm: FakeLlm) -> None:
    llm.pause = 0.02
    with start(here) as stopped:
        llm.wait_for(answers=BATCH + 2)
        stopped.terminate()
        said = stopped.communicate(timeout=20)[1]
    assert stopped.returncode == 75, said
    assert "they are committed, run it again for the rest" in said
    with start(here) as again:
        again.communicate(timeout=60)
    assert (again.returncode, llm.asked) == (0, ASKED_ONCE)


def test_a_process_that_is_asked_again_to_stop_does_not_wait_for_the_server(
    corpus: Lake, here: Settings, llm: FakeLlm
) -> None:
    llm.pause = 60.0
    with start(here) as stopped:
        llm.wait_for(asked=1)
        stopped.terminate()
        with pytest.raises(subprocess.TimeoutExpired):
            stopped.wait(0.5)  # for the batch in flight
        stopped.terminate()
        stopped.communicate(timeout=20)
    assert stopped.returncode == 75
    assert rows(corpus) == []


def test_neither_key_nor_address_is_shown_when_the_server_refuses(corpus: Lake, here: Settings, llm: FakeLlm) -> None:
    llm.fault = lambda text, nth: error(401, "invalid_api_key")
    with start(here) as refused:
        out, said = refused.communicate(timeout=60)
    assert (refused.returncode, out) == (78, "")
    assert "refuses the key" in said
    assert KEY not in said
    assert llm.url not in said


@pytest.mark.parametrize(
    ("budget", "spent"),
    # Two more than when half of the second batch is committed: only what is under way then tells that they are spent.
    [({"tokens": 14 * TOKENS}, "352 of 308 tokens"), ({"usd": round(14 * USD, 6)}, "0.0115 of 0.0101 USD")],
    ids=["tokens", "money"],
)
def test_a_used_up_budget_stops_after_the_batch_in_flight_and_a_higher_one_goes_on(
    corpus: Lake, here: Settings, llm: FakeLlm, budget: dict[str, float], spent: str
) -> None:
    with pytest.raises(DataError, match=f"the budget is used up: {spent} in run 'r1'; 24 documents are left"):
        run_annotate(corpus, here, served_task(budget=budget))
    assert len(rows(corpus)) == llm.asked.total() == 2 * BATCH
    higher = {name: 10 * amount for name, amount in budget.items()}
    assert run_annotate(corpus, here, served_task(budget=higher)).rows["reused"] == 2 * BATCH
    assert llm.asked == ASKED_ONCE


def test_tries_of_one_run_share_its_budget_and_another_run_has_its_own(
    corpus: Lake, here: Settings, llm: FakeLlm
) -> None:
    task = served_task(budget={"tokens": 12 * TOKENS})
    for left in (24, 24):
        with pytest.raises(DataError, match=rf"in run 'r1'; {left} documents are left"):
            run_annotate(corpus, here, task)
    assert llm.asked.total() == 2 * BATCH
    with pytest.raises(DataError, match="in run 'r2'; 8 documents are left"):
        run_annotate(corpus, here, task, "r2")


def test_what_tries_without_a_budget_spent_counts_when_one_is_set(corpus: Lake, here: Settings, llm: FakeLlm) -> None:
    for tries in (1, 2):
        llm.fault = lambda text, nth, most=tries * BATCH: error(503) if llm.answered.total() >= most else None
        with pytest.raises(TransientError):
            run_annotate(corpus, here, served_task())
    with pytest.raises(DataError, match="the budget is used up: 352 of 264 tokens in run 'r1'; 24 documents are left"):
        run_annotate(corpus, here, served_task(budget={"tokens": 12 * TOKENS}))
    llm.fault = lambda text, nth: None
    done = run_annotate(corpus, here, served_task())
    assert (done.facts["spent"]["tokens"], done.tokens) == (DOCUMENTS * TOKENS, 24 * TOKENS)


def test_a_budget_that_suffices_is_no_error(corpus: Lake, here: Settings) -> None:
    done = run_annotate(corpus, here, served_task(budget={"tokens": DOCUMENTS * TOKENS}))
    assert done.rows["labelled"] == DOCUMENTS


def test_a_budget_in_money_needs_a_price_before_anything_is_asked(corpus: Lake, here: Settings, llm: FakeLlm) -> None:
    with pytest.raises(ConfigError, match=r"'fake-1' has no price here; add it to LLAMBERT_PRICES"):
        run_annotate(corpus, here.model_copy(update={"prices": {}}), served_task(budget={"usd": 5}))
    assert not llm.asked
