"""Prompts: the sandbox, the document's place, and what their hash covers."""

from pathlib import Path
from typing import Any

import pytest

from llambert_etl.config import LabellingTask, load_tasks
from llambert_etl.errors import ConfigError
from llambert_etl.llm.prompts import DOCUMENT, Chat, Completion, prompt_hash, render
from tests.given.tasks import make_task, three_label_task

REPOSITORY = Path(__file__).parents[3]
PLAIN = "{% for e in examples %}{{ e.text }} = {{ e.label }}\n{% endfor %}{{ text }} ="
TURNS = (
    "{% block system %}One of: {{ labels | join(', ') }}.{% endblock %}"
    "{% block user %}{{ description }} {{ text }}{% endblock %}"
)


def _include(tmp_path: Path, template: str) -> Path:
    (tmp_path / "prompts").mkdir(exist_ok=True)
    (tmp_path / "prompts" / "movie_sentiment.j2").write_text(template)
    return tmp_path


def test_a_completion_shows_examples_then_the_document(tmp_path: Path) -> None:
    prompt = render(make_task(), _include(tmp_path, PLAIN))
    assert prompt == Completion(f"An example of positive. = positive\nAn example of negative. = negative\n{DOCUMENT} =")


def test_a_chat_shows_examples_as_earlier_turns(tmp_path: Path) -> None:
    prompt = render(three_label_task(), _include(tmp_path, TURNS))
    assert isinstance(prompt, Chat)
    assert [message.role for message in prompt.messages] == ["system", *["user", "assistant"] * 3, "user"]
    assert prompt.messages[0].content == "One of: sports, business, science."
    assert prompt.messages[2].content == "sports"
    assert prompt.messages[-1].content.endswith(DOCUMENT)


def test_a_chat_needs_no_examples(tmp_path: Path) -> None:
    prompt = render(make_task(prompt={"examples": []}), _include(tmp_path, TURNS))
    assert isinstance(prompt, Chat)
    assert [message.role for message in prompt.messages] == ["system", "user"]


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__ }}{{ text }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}{{ text }}",
        "{{ text.__init__.__globals__ }}{{ text }}",
        "{{ lipsum.__globals__['os'] }}{{ text }}",
        "{{ conn.x }}{{ text }}",
        "{{ var.value.secret }}{{ text }}",
        "{{ range(9) }}{{ text }}",
        "{% include '../tasks/x.yaml' %}{{ text }}",
        "{% import 'other.j2' as other %}{{ text }}",
        "{% set _ = labels.update({'x': 'y'}) %}{{ text }}",
        "{{ text",
        "{{ 1 // 0 }}{{ text }}",
        "no document at all",
        "{{ text }} twice {{ text }}",
        "{{ text | upper }}",
        "{% block system %}{{ text }}{% endblock %}{% block user %}{{ text }}{% endblock %}",
    ],
)
def test_a_template_that_reaches_out_or_loses_the_document_is_refused(tmp_path: Path, template: str) -> None:
    with pytest.raises(ConfigError, match=r"movie_sentiment\.j2"):
        render(make_task(), _include(tmp_path, template))


def test_a_missing_template_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"movie_sentiment\.j2.*cannot be read"):
        render(make_task(), tmp_path)


def test_jinja_in_an_example_stays_literal(tmp_path: Path) -> None:
    task = make_task(prompt={"examples": [{"text": "{{ conn.x }} ${HOME} $(rm)", "label": "positive"}]})
    prompt = render(task, _include(tmp_path, PLAIN))
    assert isinstance(prompt, Completion)
    assert "{{ conn.x }} ${HOME} $(rm) = positive" in prompt.content


@pytest.mark.parametrize(
    "changes",
    [
        {"description": "Another question?"},
        {"labels": {"positive": "Another meaning.", "negative": "The review is negative."}},
        {"labels": {"negative": "The review is negative.", "positive": "The review is positive."}},
        {"prompt": {"examples": []}},
        {"prompt": {"examples": [{"text": "An example of positive!", "label": "positive"}]}},
        {"annotator": {"method": "generate"}},
    ],
)
def test_whatever_changes_the_question_changes_the_hash(tmp_path: Path, changes: dict[str, Any]) -> None:
    include = _include(tmp_path, PLAIN)
    assert prompt_hash(make_task(**changes), include) != prompt_hash(make_task(), include)


@pytest.mark.parametrize(
    ("left_out", "same"),
    [(["seed", "logprobs"], True), (["temperature"], False), (["system"], False), (["seed", "system"], False)],
)
def test_a_field_that_a_server_is_not_sent_changes_the_hash_where_it_changes_answers(
    tmp_path: Path, left_out: list[str], same: bool
) -> None:
    include, asked = _include(tmp_path, PLAIN), {"server": "gpt", "model": "m", "method": "generate"}
    hashes = [prompt_hash(make_task(annotator={**asked, "leave_out": each}), include) for each in ([], left_out)]
    assert (hashes[0] == hashes[1]) == same


def test_another_template_changes_the_hash(tmp_path: Path) -> None:
    before = prompt_hash(make_task(), _include(tmp_path, PLAIN))
    assert prompt_hash(make_task(), _include(tmp_path, PLAIN + " ")) != before


def test_a_larger_sample_or_another_gate_keeps_the_hash(tmp_path: Path) -> None:
    include = _include(tmp_path, PLAIN)
    same = make_task(annotator={"sample": 7}, gates={"max_unparsed": 0.5}, owner="others")
    assert prompt_hash(same, include) == prompt_hash(make_task(), include)


def test_the_demo_keeps_its_hash_so_that_its_answers_are_found_again() -> None:
    include = REPOSITORY / "include"
    assert prompt_hash(load_tasks(include).tasks["movie_sentiment"], include) == "2a0054663151c3f5"


@pytest.mark.parametrize("task", load_tasks(REPOSITORY / "include").tasks.values(), ids=lambda task: task.name)
def test_every_shipped_task_renders(task: LabellingTask) -> None:
    assert render(task, REPOSITORY / "include")


def test_every_shipped_task_file_is_valid() -> None:
    found = load_tasks(REPOSITORY / "include")
    assert not found.problems
    assert {"movie_sentiment", "imdb_sentiment", "umls_anatomy"} <= set(found.tasks)
