"""A data set of the hub is ingested like a folder: what its revision holds now, whole and verified, or nothing."""

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from llambert_etl.errors import ConfigError, DataError, LlambertError, TransientError
from llambert_etl.run import Run
from llambert_etl.sources.files import FileDrop, Listing
from llambert_etl.sources.location import allowed_location
from llambert_etl.steps.gold import import_gold
from tests.fakes.hub import TOKEN, FakeHub
from tests.given.landing import DAY, Landing, listed
from tests.given.poison import jsonl, parquet, reviews
from tests.given.tasks import make_task

NAME = "datasets/tests/reviews"
URI = "hf://datasets/tests/reviews@main"
FILES = {
    f"{DAY}/a.jsonl.gz": gzip.compress(jsonl(*reviews(3))),
    f"{DAY}/b.parquet": parquet(id=["p1", "p2"], text=["one", "two"]),
    f"{DAY}/c.csv": b"id,text\nc1,three\n",
    f"{DAY}/deep/d.jsonl": jsonl(*reviews(1, start=9)),
    "2026-11-09/a.jsonl": jsonl(*reviews(1, start=7)),
    "README.md": b"# Reviews",
}


class Published(Landing):
    """A landing zone whose files are a data set's."""

    def __init__(self, root: Path, hub: FakeHub, uri: str = f"{URI}/{{partition}}/*") -> None:
        super().__init__(root)
        options = {"hub_endpoint": hub.url, "hub_hosts": ["localhost"], "sources": ["hf://datasets/tests/"]}
        self.settings = self.settings.model_copy(update={**options, "state": root / "state"})
        self.task = make_task(source={"uri": uri})


@pytest.fixture
def published(tmp_path: Path, hub: FakeHub) -> Published:
    hub.publish(NAME, FILES)
    return Published(tmp_path, hub)


def test_a_day_is_read_from_its_folder_of_the_data_set(published: Published) -> None:
    assert published.ingest().rows == {"read": 6, "accepted": 6, "rejected": 0}
    assert published.accepted() == ["c1", "p1", "p2", "r0", "r1", "r2"]
    assert set(published.rows()["source"]) == {f"{URI}/{DAY}/{name}" for name in ("a.jsonl.gz", "b.parquet", "c.csv")}
    assert not list((published.settings.state).iterdir())


def test_a_pattern_may_name_folders(published: Published, hub: FakeHub) -> None:
    published.task = make_task(source={"uri": f"{URI}/{{partition}}/*/*.jsonl"})
    assert published.ingest().rows["accepted"] == 1


def test_a_day_without_a_folder_is_empty(published: Published) -> None:
    published.task = make_task(source={"uri": f"{URI}/no-such-folder/{{partition}}/*"})
    assert published.ingest().facts["empty"] is True


def test_a_branch_that_moves_on_changes_only_the_days_whose_files_it_changes(
    published: Published, hub: FakeHub
) -> None:
    published.ingest()
    hub.publish(NAME, FILES | {"2026-11-11/a.jsonl": jsonl(*reviews(1, start=20))})
    assert published.ingest().facts["replayed"] is True
    hub.publish(NAME, FILES | {f"{DAY}/c.csv": b"id,text\nc1,corrected\n"})
    assert published.ingest().facts["content_changed"] is True
    assert "corrected" in published.rows()["text"].to_list()


def test_a_pinned_commit_is_read_whatever_the_branch_does(tmp_path: Path, hub: FakeHub) -> None:
    commit = hub.publish(NAME, FILES)
    hub.publish(NAME, {})
    pinned = Published(tmp_path, hub, f"hf://datasets/tests/reviews@{commit}/{{partition}}/*.csv")
    assert pinned.ingest().rows["accepted"] == 1


def test_a_push_while_the_day_is_read_is_noticed(published: Published, hub: FakeHub) -> None:
    drop = listed(FileDrop(published.task.source, DAY, published.settings))
    hub.publish(NAME, FILES | {f"{DAY}/c.csv": b"id,text\nc1,corrected\n"})
    first = next(item for item in drop.objects if item.uri.endswith(".csv"))
    assert drop.open(first).read() == FILES[f"{DAY}/c.csv"]
    with pytest.raises(TransientError, match="changed while"):
        drop.verify_unchanged()


def test_a_file_that_goes_after_it_was_listed_is_transient(published: Published, hub: FakeHub) -> None:
    drop = listed(FileDrop(published.task.source, DAY, published.settings))
    hub.repos[NAME].commits.clear()
    with pytest.raises(TransientError, match="went after it was listed"):
        drop.open(drop.objects[0])


@pytest.mark.parametrize(
    ("harm", "error", "message"),
    [
        ("cut", TransientError, "try again|run it again"),
        ("forged", DataError, "is not the file that it lists"),
        ("down", TransientError, "the hub answered 503"),
        ("gated", ConfigError, "LLAMBERT_HUB_TOKEN"),
        ("private", ConfigError, "LLAMBERT_HUB_TOKEN"),
        ("no branch", ConfigError, "no such revision"),
        ("no data set", ConfigError, "none such"),
    ],
)
def test_a_data_set_that_cannot_be_read_commits_nothing(
    published: Published, hub: FakeHub, harm: str, error: type[LlambertError], message: str
) -> None:
    repo, name = hub.repos[NAME], f"{DAY}/b.parquet"
    repo.gated, repo.private = harm == "gated", harm == "private"
    hub.status = 503 if harm == "down" else 0
    hub.cut = {name: 50} if harm == "cut" else {}
    hub.forged = {name: FILES[name][::-1]} if harm == "forged" else {}
    if harm == "no branch":
        repo.refs.clear()
    if harm == "no data set":
        hub.repos.clear()
    with pytest.raises(error, match=message):
        published.ingest()
    assert published.rows().is_empty()


def test_a_gated_data_set_is_read_with_the_token_of_the_settings(published: Published, hub: FakeHub) -> None:
    hub.repos[NAME].gated = True
    published.settings = published.settings.model_copy(update={"hub_token": SecretStr(TOKEN)})
    assert published.ingest().rows["accepted"] == 6
    assert hub.tokens_elsewhere == []


def test_a_name_that_leads_elsewhere_is_refused_unread(published: Published, hub: FakeHub) -> None:
    names = ["..", "a\\b.jsonl", "a%2e%2e.jsonl", "\x01.jsonl"]
    hub.publish(NAME, {f"{DAY}/{name}": jsonl(*reviews(1)) for name in names})
    assert published.ingest().reasons == {"file_unsafe_name": len(names)}
    assert not [asked for asked in hub.asked if "/resolve/" in asked]


def test_gold_may_lie_in_a_data_set(published: Published, hub: FakeHub) -> None:
    rows = "".join(f"g{n},film {n},{'positive' if n % 2 else 'negative'}\n" for n in range(20))
    hub.publish(NAME, {"gold.csv": f"id,text,label\n{rows}".encode()})
    done = import_gold(
        Run(published.task, DAY, "r"), f"{URI}/gold.csv", lake=published.lake, settings=published.settings
    )
    assert done.rows["read"] == 20


@pytest.mark.parametrize(
    ("allowed", "uri"),
    [
        ("hf://datasets/tests", f"{URI}/2026-11-10/*.parquet"),
        ("hf://datasets/tests/", f"{URI}/2026-11-10/*.parquet"),
        ("hf://datasets/tests/reviews", f"{URI}/a.csv"),
        ("hf://datasets/tests/reviews@main", f"{URI}/a.csv"),
        ("hf://datasets/tests/reviews@main/2026-11-10", f"{URI}/2026-11-10/*.csv"),
    ],
)
def test_an_allow_listed_data_set_is_accepted(allowed: str, uri: str) -> None:
    assert str(allowed_location(uri, ["s3://tests/", allowed])) == uri


@pytest.mark.parametrize(
    "uri",
    [
        "hf://datasets/others/reviews@main/a.csv",
        "hf://datasets/tests-2/reviews@main/a.csv",
        "hf://datasets/tests/reviews/a.csv",
        "hf://datasets/tests/reviews@/a.csv",
        "hf://datasets/tests/reviews@main",
        "hf://datasets/tests/../others/reviews@main/a.csv",
        "hf://datasets/tests/..@main/a.csv",
        "hf://datasets/tests/reviews@main/../a.csv",
        "hf://datasets/tests/reviews@..%2Fmain/a.csv",
        "hf://datasets/*/reviews@main/a.csv",
        "hf://datasets/tests/*@main/a.csv",
        "hf://datasets/token:secret@hub.example/reviews@main/a.csv",
        "hf://models/tests/reviews@main/a.csv",
        "hf://tests/reviews@main/a.csv",
        "hf://datasets/",
        "hf://",
        "HF://datasets/tests/reviews@main/a.csv",
        "s3://tests/reviews/a.csv",
        "/datasets/tests/reviews@main/a.csv",
    ],
)
def test_any_other_data_set_is_refused(uri: str) -> None:
    with pytest.raises(ConfigError):
        allowed_location(uri, ["hf://datasets/tests/"])


@pytest.mark.parametrize("allowed", ["hf://datasets/tests/reviews@v1", "hf://datasets/tests/reviews@main/other"])
def test_a_narrower_prefix_allows_no_more_than_it_names(allowed: str) -> None:
    with pytest.raises(ConfigError, match="LLAMBERT_SOURCES"):
        allowed_location(f"{URI}/day/*.csv", [allowed])


@given(st.text(max_size=40), st.lists(st.sampled_from([".", "..", "/", "@", "*", "%", "\n", "a"])).map("".join))
def test_no_uri_escapes_its_allow_listed_organisation(any_text: str, tricky: str) -> None:
    for tail in (any_text, tricky):
        try:
            location = allowed_location(f"hf://datasets/tests/{tail}", ["hf://datasets/tests/"])
        except ConfigError:
            continue
        organisation, _, revision = str(location.bucket).partition("/")
        assert organisation == "tests"
        assert revision.count("@") == 1
        assert not {"..", "."} & {*location.parts, *revision.split("@")}


def test_the_hub_is_not_asked_where_the_environment_forbids_it(
    published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match=r"source 'hf://.*HF_HUB_OFFLINE is set"):
        listed(Listing(f"{URI}/{DAY}/*", published.settings))
