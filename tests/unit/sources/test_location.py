"""Only allow-listed places are read, and a key means one thing or is refused."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llambert_etl.errors import ConfigError, TransientError
from llambert_etl.partition import Partition
from llambert_etl.settings import Settings
from llambert_etl.sources.files import FileDrop, Listing
from llambert_etl.sources.folder import LandingFolder
from llambert_etl.sources.location import Location, allowed_location, is_safe_key
from llambert_etl.sources.readers import read_rows
from llambert_etl.sources.records import Limits
from tests.given.landing import listed
from tests.given.tasks import make_task

ALLOWED = ["s3://landing/movies", "s3://whole-bucket/", "/data/landing"]


@pytest.mark.parametrize(
    "uri",
    [
        "s3://landing/movies/2026-11-10/*.jsonl.gz",
        "s3://landing/movies/a.csv",
        "s3://whole-bucket/x/y.csv",
        "/data/landing/2026-11-10/*.csv",
    ],
)
def test_an_allow_listed_source_is_accepted(uri: str) -> None:
    assert str(allowed_location(uri, ALLOWED)) == uri


@pytest.mark.parametrize(
    "uri",
    [
        "file:///etc/passwd",
        "file:/etc/passwd",
        "http://169.254.169.254/latest/meta-data/iam",
        "https://landing/movies/x.csv",
        "s3://169.254.169.254/latest/x",
        "s3://user:secret@landing/movies/x.csv",
        "s3://landing:80/movies/x.csv",
        "s3://Landing/movies/x.csv",
        "s3:/landing/movies/x.csv",
        "S3://landing/movies/x.csv",
        "s3://landing/movies-of-others/x.csv",
        "s3://landing/x.csv",
        "s3://landing/*/x.csv",
        "s3://landing-2/movies/x.csv",
        "s3://landing/movies/../private/x.csv",
        "s3://landing/movies//x.csv",
        "s3://landing/movies/./x.csv",
        "s3://landing/movies/%2e%2e/x.csv",
        "s3://landing/movies/a\\b.csv",
        "s3://landing/movies/a\0.csv",
        "s3://landing/movies/a\n.csv",
        "s3://landing/movies/{ds}/x.csv",
        "s3://landing",
        "s3://",
        "/etc/passwd",
        "/data/landing/../../etc/passwd",
        "/data/landing-2/x.csv",
        "//data/landing/x.csv",
        "relative/x.csv",
        "",
    ],
)
def test_any_other_source_is_refused(uri: str) -> None:
    with pytest.raises(ConfigError):
        allowed_location(uri, ALLOWED)


@pytest.mark.parametrize("bucket", ["169.254.169.254", "ab", "UPPER", "a/../b"])
def test_what_is_no_bucket_cannot_be_allow_listed_either(bucket: str) -> None:
    with pytest.raises(ConfigError):
        allowed_location(f"s3://{bucket}/x/y.csv", [f"s3://{bucket}"])


def test_the_refusal_names_the_setting() -> None:
    with pytest.raises(ConfigError, match="LLAMBERT_SOURCES"):
        allowed_location("s3://other/x.csv", [])


@given(st.text(max_size=40), st.text(alphabet="./\\%\0\n*ab", max_size=20))
def test_no_uri_escapes_its_allow_listed_prefix(any_text: str, tricky: str) -> None:
    for tail in (any_text, tricky):
        try:
            location = allowed_location(f"s3://landing/movies/{tail}", ALLOWED)
        except ConfigError:
            continue
        assert location.bucket == "landing"
        assert location.parts[0] == "movies"
        assert ".." not in location.parts
        assert "" not in location.parts


@given(st.text(alphabet="ab./\\%\0\x1f", min_size=1, max_size=12))
def test_a_safe_key_is_the_same_after_any_client_has_normalised_it(key: str) -> None:
    if is_safe_key(key):
        assert str(Path("/root", key)) == f"/root/{key}"
        assert not set(key) & set("\\%\0\x1f")


def test_a_star_never_crosses_a_slash() -> None:
    location = Location.parse("s3://landing/movies/*/x-?.csv")
    assert location.matches("movies/day/x-1.csv")
    assert not location.matches("movies/day/deep/x-1.csv")
    assert not location.matches("movies/x-1.csv")


def test_brackets_in_a_source_mean_themselves(landing: Path, settings: Settings) -> None:
    (landing / "2026-11-10" / "a [1].csv").write_text("id,text\n")
    for pattern in ("a [1].csv", "*[1].csv"):
        (found,) = Listing(f"{landing}/2026-11-10/{pattern}", settings).objects
        assert found.uri.endswith("/a [1].csv")
    assert Location.parse("s3://landing/[movies]/*.csv").folder == ("[movies]",)


@pytest.mark.parametrize(
    ("pattern", "named"), [("*/*.csv", "2026-11-10/*.csv"), ("2026-11-1?/*.csv", "2026-11-1?"), ("*/?.csv", "*")]
)
def test_what_is_named_like_a_pattern_is_no_pattern_and_hides_no_file(
    landing: Path, settings: Settings, pattern: str, named: str
) -> None:
    named_so = landing / named
    named_so.mkdir() if "/" not in named else named_so.write_bytes(b"")
    found = {str(Path(item.uri).relative_to(landing)) for item in Listing(f"{landing}/{pattern}", settings).objects}
    assert found >= {"2026-11-10/a.csv", "2026-11-10/b.csv"}


@pytest.fixture
def landing(tmp_path: Path) -> Path:
    folder = tmp_path / "landing"
    (folder / "2026-11-10").mkdir(parents=True)
    for name in ("b.csv", "a.csv", "c.txt"):
        (folder / "2026-11-10" / name).write_text("id,text\n")
    return folder


@pytest.fixture
def settings(landing: Path) -> Settings:
    return Settings(lake="/unused", sources=[str(landing)])


def test_a_drop_is_the_day_s_matching_files_in_order(landing: Path, settings: Settings) -> None:
    source = make_task(source={"uri": f"{landing}/{{partition}}/*.csv"}).source
    drop = listed(FileDrop(source, Partition("2026-11-10"), settings))
    assert [Path(item.uri).name for item in drop.objects] == ["a.csv", "b.csv"]
    assert FileDrop(source, Partition("2026-11-11"), settings).objects == ()


@pytest.mark.parametrize("link", ["2026-11-10/link.csv", "2026-11-12"])
def test_a_link_out_of_the_allow_listed_folder_is_refused(landing: Path, settings: Settings, link: str) -> None:
    outside = landing.parent / "outside"
    outside.mkdir()
    (outside / "secret.csv").write_text("id,text\n")
    (landing / link).symlink_to(outside / "secret.csv" if link.endswith(".csv") else outside)
    with pytest.raises(ConfigError, match=r"LLAMBERT_SOURCES.*remove the link"):
        listed(Listing(f"{landing}/{link.split('/', maxsplit=1)[0]}/*.csv", settings))


@pytest.mark.parametrize("link", ["2026-11-10/link.csv", "2026-11-12"])
@pytest.mark.parametrize(("target", "said"), [("gone.csv", "No such file"), ("../loop", "Too many levels")])
def test_a_link_that_leads_nowhere_is_refused(
    landing: Path, settings: Settings, link: str, target: str, said: str
) -> None:
    (landing / "../loop").symlink_to(landing / "../loop")
    (landing / link).symlink_to(landing / target)
    with pytest.raises(ConfigError, match=rf"{link}' is a link that leads nowhere: {said}.*; remove or mend it"):
        listed(Listing(f"{landing}/{link.split('/', maxsplit=1)[0]}/*.csv", settings))


def test_a_folder_that_is_not_mounted_is_no_empty_day(settings: Settings, landing: Path) -> None:
    landing.rename(landing.with_name("elsewhere"))
    with pytest.raises(ConfigError, match="does not exist"):
        listed(Listing(f"{landing}/2026-11-10/*.csv", settings))


def test_a_file_that_goes_while_its_folder_is_listed_is_worth_another_try(landing: Path, settings: Settings) -> None:
    listing = LandingFolder(settings.sources).list(Location.parse(f"{landing}/2026-11-10/*.csv"))
    assert next(listing).uri.endswith("a.csv")
    (landing / "2026-11-10" / "b.csv").unlink()
    with pytest.raises(TransientError, match=r"b\.csv' went while its folder was listed"):
        next(listing)


def test_a_file_that_is_replaced_after_it_was_listed_is_not_read(landing: Path, settings: Settings) -> None:
    drop = listed(Listing(f"{landing}/2026-11-10/a.csv", settings))
    (landing / "2026-11-10" / "a.csv").write_text("id,text\n1,new\n")
    with pytest.raises(TransientError, match="changed after it was listed"):
        drop.open(drop.objects[0])


def test_a_disk_that_fails_while_a_file_is_read_is_worth_another_try() -> None:
    drop = listed(Listing("/proc/self/mem", Settings(lake="/unused", sources=["/proc/self"])))
    for suffix in (".jsonl", ".parquet"):
        with (
            drop.open(drop.objects[0]) as raw,
            pytest.raises(TransientError, match="cannot be read: Input/output error"),
        ):
            list(read_rows(raw, f"a{suffix}", 400, make_task().source, Limits()))  # type: ignore[arg-type]


def test_a_pipe_is_no_file(landing: Path, settings: Settings) -> None:
    os.mkfifo(landing / "2026-11-10" / "pipe.csv")
    assert len(Listing(f"{landing}/2026-11-10/*.csv", settings).objects) == 2
