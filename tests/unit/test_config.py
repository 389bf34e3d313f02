"""A wrong task file names the file, the field, the value and the fix, and hides no other task."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from llambert_etl.config import LabellingTask, Strategy, find_task, fingerprint, load_task, load_tasks
from llambert_etl.config.yaml_files import MAX_FILE_BYTES
from llambert_etl.errors import ConfigError
from llambert_etl.settings import Settings
from tests.given.served import served_fields
from tests.given.tasks import make_task, task_fields, three_label_task

INCLUDE = Path(__file__).parents[2] / "include"


def write_task(folder: Path, fields: dict[str, Any] | str, name: str = "reviews") -> Path:
    path = folder / "tasks" / f"{name}.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(fields if isinstance(fields, str) else yaml.safe_dump(fields, sort_keys=False))
    return path


def changed(path: str, value: Any) -> dict[str, Any]:
    """Return the fields of a valid task with the one at `path` set to `value`."""
    fields = task_fields()
    part: Any = fields
    *parents, last = path.split(".")
    for name in parents:
        part = part[name]
    part[last] = value
    return fields


def test_a_valid_file_loads_with_its_defaults(tmp_path: Path) -> None:
    task = load_task(write_task(tmp_path, task_fields()))
    assert (task.name, task.label_names) == ("reviews", ("positive", "negative"))
    assert task.retrain.weekday == "sunday"


def test_a_task_may_have_three_labels() -> None:
    assert three_label_task().label_names == ("sports", "business", "science")


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("colour", "blue", r"colour: unknown field; remove it, the fields here are name, description"),
        ("labels", {"positive": "Only one."}, "at least two labels"),
        ("labels", {"positive": "a", "Positive": "b"}, "differ only in case"),
        ("labels", {"Neopl.": "a", "neopl": "b"}, "differ only in case or in punctuation at the end"),
        ("labels", {"a -": "a", "a": "b"}, "differ only in case or in punctuation at the end"),
        ("labels", {"nerve ": "a", "vessel": "b"}, r"labels\.nerve .*: must be letters, digits, spaces and"),
        ("gates.min_gold_f1", 95, r"gates\.min_gold_f1: .*must be 1\.0 or less \(found 95\)"),
        ("gates.min_label_share", 0.6, "0.6 for each of 2 labels exceeds 1"),
        ("gates.min_label_share", {"positive": 0.6, "negative": 0.5}, "exceeds 1"),
        ("gates.min_label_share", {"odd": 0.1}, r"gates\.min_label_share: \['odd'\] are none of the labels"),
        ("gates.min_label_share", {"odd!": 0.1}, r"gates\.min_label_share\.odd!.*: must be letters, digits, spaces"),
        ("gates.min_label_share", 2, r"gates\.min_label_share: must be 1\.0 or less \(found 2\)$"),
        (
            "gates.min_label_share",
            {"positive": 2},
            r"gates\.min_label_share\.positive: must be 1\.0 or less \(found 2\)$",
        ),
        ("gates.min_label_share", {"positive": True}, r"gates\.min_label_share\.positive: must not be true or false"),
        ("gates.min_label_f1", {"odd": 0.5}, r"gates\.min_label_f1: \['odd'\] are none of the labels"),
        ("prompt.examples", [{"text": "x", "label": "meh"}], r"prompt\.examples\.0\.label: 'meh' is not one of"),
        ("name", "../x", r"name: must be lower-case letters.*found '\.\./x'"),
        ("name", "other", r"name: 'other' must equal the file's name 'reviews'"),
        ("source.uri", "s3://landing/all/*", r"source: uri must contain \{partition\}"),
        ("annotator.revision", "main", r"annotator\.revision: must be a commit, its 40 .*found 'main'"),
        ("annotator.model", "../../etc/passwd", r"annotator\.model: must be organisation/name"),
        ("annotator.server", "http://169.254.169.254", r"annotator\.server: must be the name of a server"),
        ("annotator.budget", {"usd": 0}, r"annotator\.budget\.usd: must be above 0; .*leave it out.*\(found 0\)"),
        ("annotator.budget", {"tokens": -1}, r"annotator\.budget\.tokens: must be above 0"),
        ("annotator.budget", 0, r"annotator\.budget: name what it is of, such as \{usd: 20\}"),
        ("annotator.budget", {}, r"annotator\.budget: name what it is of"),
        ("annotator.budget", {"euro": 5}, r"annotator\.budget: name what it is of"),
        ("annotator.budget", {"usd": float("nan")}, r"annotator\.budget\.usd: must be a finite number"),
        ("annotator.batch", True, r"annotator: batch: only a server takes batch files"),
        ("annotator.leave_out", ["seed"], r"annotator: leave_out: only a server is sent these fields"),
        ("annotator.sample", 0, r"annotator\.sample: must be above 0"),
        (
            "annotator.sample",
            True,
            r"annotator\.sample: must not be true or false, which yes.* in quotes \(found True\)",
        ),
        ("annotator.sample", 2**31, r"annotator\.sample: must be 2147483647 or less"),
        ("annotator.extra", 2**31, r"annotator\.extra: must be 2147483647 or less"),
        ("source.max_chars", 2**31, r"source\.max_chars: must be 2147483647 or less"),
        ("source.id", "", r"source\.id: must not be empty"),
        ("source.text", "", r"source\.text: must not be empty"),
        ("annotator.extra", -1, r"annotator\.extra: must be 0 or more"),
        ("encoder.strategy", "llm+extra", r"'llm\+extra' needs annotator\.extra, which is 0"),
        ("encoder.image", "evil:latest", r"encoder\.image: unknown field"),
        ("encoder.learning_rate", 1e6, r"encoder\.learning_rate: must be below 1"),
        ("gold", "../../secret.parquet", r"gold: .*inside the include folder"),
        ("gold", "", r"gold: .*inside the include folder"),
        ("gold", ".", r"gold: .*inside the include folder"),
        ("gold", "/etc/passwd", r"gold: .*inside the include folder"),
        ("prompt.template", "../x.j2", r"prompt\.template: must be the name of a file of include/prompts"),
        ("owner", None, r"owner: must be text; put it in quotes"),
        ("owner", "o" * 101, r"owner: must have 100 characters at most"),
    ],
)
def test_a_wrong_field_is_named_with_its_value_and_rule(tmp_path: Path, field: str, value: Any, said: str) -> None:
    path = write_task(tmp_path, changed(field, value))
    with pytest.raises(ConfigError, match=f"(?s){path}: .*{said}"):
        load_task(path)


@pytest.mark.parametrize(
    ("given", "gold", "floors"),
    [
        (None, {}, (0.05, 0.05)),
        (None, {"positive": 0.02, "negative": 0.98}, (0.01, 0.05)),
        (0.2, {"positive": 0.02, "negative": 0.98}, (0.2, 0.2)),
        ({"positive": 0.001}, {"positive": 0.02, "negative": 0.98}, (0.001, 0.05)),
        ({"negative": 0.5}, {"positive": 0.02, "negative": 0.98}, (0.01, 0.5)),
        (None, {"positive": 0.0, "negative": 1.0}, (0.0, 0.05)),
    ],
)
def test_a_floor_is_what_the_file_says_and_else_fits_what_gold_has(
    given: Any, gold: dict[str, float], floors: tuple[float, float]
) -> None:
    task = make_task(gates={"min_label_share": given})
    assert tuple(task.share_floors(gold).values()) == floors


def test_many_labels_need_no_floor_of_their_own() -> None:
    names = tuple(f"label {number}" for number in range(40))
    fields = task_fields(labels=names)
    del fields["gates"]["min_label_share"]
    floors = LabellingTask.model_validate(fields).share_floors({})
    assert set(floors.values()) == {0.0125}


def test_only_a_training_with_class_weights_is_another_than_it_was_when_they_were_clipped_away() -> None:
    plain, weighted = (make_task(encoder={"class_weights": weights}).encoder for weights in (False, True))
    assert plain.identity() == plain.model_dump(mode="json")
    assert weighted.identity() != weighted.model_dump(mode="json")


def test_a_gate_that_is_left_out_leaves_the_hash_as_it_is() -> None:
    plain, lowered = make_task(), make_task(gates={"min_label_f1": {"positive": 0.5}})
    assert "min_label_f1" not in plain.gates.model_dump()
    assert lowered.config_hash != plain.config_hash
    assert (lowered.f1_floors(), plain.f1_floors()) == (
        {"positive": 0.5, "negative": 0.0},
        {"positive": 0.0, "negative": 0.0},
    )


@pytest.mark.parametrize(
    ("annotator", "said"),
    [
        ({"method": "score"}, r"annotator: server: replies are parsed, so set method: generate"),
        ({"recorded": {"file": "x.csv"}}, r"annotator: recorded and server: replies come from one of the two"),
        ({"model": "gpt 4"}, r"annotator\.model: must be the server's name of a model"),
        ({"revision": "a b"}, r"annotator\.revision: must be a word of letters"),
        ({"api_key": "sk-1"}, r"annotator\.api_key: unknown field"),
        ({"url": "http://localhost"}, r"annotator\.url: unknown field"),
    ],
)
def test_a_wrong_field_beside_a_server_is_named(tmp_path: Path, annotator: dict[str, Any], said: str) -> None:
    path = write_task(tmp_path, served_fields(**annotator))
    with pytest.raises(ConfigError, match=said):
        load_task(path)


@pytest.mark.parametrize("model", ["gpt-4-0613", "llama3:70b", "meta-llama/Llama-2-70b-chat-hf", "models/a/b.gguf"])
def test_a_servers_model_has_its_name_there_and_the_servers_name_as_revision(tmp_path: Path, model: str) -> None:
    served = load_task(write_task(tmp_path, served_fields(model=model))).annotator
    assert (served.model, served.revision) == (model, "fake")
    pinned = load_task(write_task(tmp_path, served_fields(model=model, revision="2024-05-13"))).annotator
    assert pinned.revision == "2024-05-13"


def test_what_looks_like_a_date_is_text(tmp_path: Path) -> None:
    path = write_task(tmp_path, served_fields(revision="2024-05-13"))
    path.write_text(path.read_text().replace("'2024-05-13'", "2024-05-13"))
    assert load_task(path).annotator.revision == "2024-05-13"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("name: [unclosed", "not valid YAML"),
        ("- a\n- list", "must be a mapping"),
        ("", "must be a mapping"),
        ("name: !!python/object/apply:os.system ['touch /tmp/x']", "not valid YAML"),
        ("name: a\nname: b", "key 'name' appears twice"),
        ("[" * 5000, "not valid YAML"),
        *(
            (f"name: {tagged}", r"tags \(!\) are not taken")
            for tagged in ("!!int a", "!!bool a", "!!timestamp a", "! a")
        ),
        ("a: &a [x]\nb: &b [*a, *a]", r"anchors \(&\), aliases .* are not taken"),
        ("name: 0x_", "not valid YAML: invalid literal"),
        ('name: "\\UFFFFFFFF"', "not valid YAML"),
        ('name: "a\\0"', "text must not hold a NUL"),
        ("#" * (MAX_FILE_BYTES + 1), "larger than"),
    ],
)
def test_what_is_not_a_task_file_is_refused(tmp_path: Path, content: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_task(write_task(tmp_path, content))


def test_bytes_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    path = write_task(tmp_path, "name: x")
    path.write_bytes(b"name: \xff\xfe")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_task(path)


@pytest.mark.parametrize("content", ["name: [", "name: 2026-02-30", "name: !!float a"])
def test_a_broken_file_hides_no_other_task(tmp_path: Path, content: str) -> None:
    write_task(tmp_path, task_fields())
    broken = write_task(tmp_path, content, "broken")
    found = load_tasks(tmp_path)
    assert list(found.tasks) == ["reviews"]
    assert list(found.problems) == [broken]


def test_a_task_file_of_another_suffix_is_to_be_renamed(tmp_path: Path) -> None:
    path = write_task(tmp_path, task_fields())
    path.rename(path.with_suffix(".yml"))
    found = load_tasks(tmp_path)
    assert not found.tasks
    assert "steps look for reviews.yaml; rename the file" in found.problems[path.with_suffix(".yml")]


def test_an_unknown_task_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    write_task(tmp_path, task_fields())
    with pytest.raises(ConfigError, match=r"'revews': no file .*the tasks here are \['reviews'\]"):
        find_task(tmp_path, "revews")


@pytest.mark.parametrize("name", ["../reviews", "Reviews", "", "a/b", "x" * 70])
def test_a_task_name_is_never_a_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError):
        find_task(tmp_path, name)


@pytest.mark.parametrize(("strategy", "size"), [("gold", 100), ("llm", 100), ("llm+extra", 150), ("combined", 150)])
def test_a_strategy_asks_for_no_more_documents_than_it_learns_from(strategy: Strategy, size: int) -> None:
    task = make_task(annotator={"sample": 100, "extra": 50}, encoder={"strategy": strategy})
    assert task.sample_size() == make_task(annotator={"sample": 100, "extra": 50}).sample_size(strategy) == size
    assert task.sample_size(asked=7) == 7


def test_a_strategy_without_its_extra_documents_is_refused_whatever_the_sample() -> None:
    with pytest.raises(ConfigError, match=r"'llm\+extra' needs annotator\.extra"):
        make_task().sample_size("llm+extra", 1_000)


def test_the_hash_changes_with_any_field_and_with_the_order_of_labels() -> None:
    task = make_task()
    assert make_task().config_hash == task.config_hash
    assert make_task(encoder={"epochs": 2}).config_hash != task.config_hash
    turned = make_task(labels=dict(reversed(task.labels.items())))
    assert turned.config_hash != task.config_hash


def test_a_fingerprint_does_not_depend_on_the_order_of_keys() -> None:
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})


def test_no_field_of_a_task_file_can_name_an_image_a_command_or_a_secret() -> None:
    schema = str(LabellingTask.model_json_schema()).lower()
    assert not [word for word in ("image", "command", "module", "environ", "account", "password") if word in schema]


def test_each_integer_has_a_bound_but_those_that_are_only_hashed_or_counted_in() -> None:
    """One above a library's integers would end as a bug."""
    schemas = {model.__name__: model.model_json_schema() for model in (LabellingTask, Settings)}
    free = {name.rpartition("/properties/")[2].partition("/")[0] for name in unbounded(schemas)}
    assert free == {"seed", "tokens", "llm_memory"}


def unbounded(node: Any, name: str = "") -> Iterator[str]:
    if isinstance(node, list):
        node = dict(enumerate(node))
    if not isinstance(node, dict):
        return
    if node.get("type") == "integer" and not {"maximum", "exclusiveMaximum"} & node.keys():
        yield name
    for key, value in node.items():
        yield from unbounded(value, f"{name}/{key}")


def test_every_shipped_task_file_loads() -> None:
    found = load_tasks(INCLUDE)
    assert not found.problems
    assert {"movie_sentiment", "imdb_sentiment", "umls_anatomy"} <= set(found.tasks)
