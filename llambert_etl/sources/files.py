"""The files that a source holds for one partition, read row by row."""

from collections.abc import Sequence
from contextlib import closing
from functools import cached_property, partial

from pydantic import JsonValue

from llambert_etl.config import FileSource, fingerprint
from llambert_etl.partition import Partition
from llambert_etl.settings import Settings
from llambert_etl.sources.clean import CLEANER_VERSION
from llambert_etl.sources.drop import Drop, Piece, Rows
from llambert_etl.sources.location import Location, allowed_location, is_safe_key
from llambert_etl.sources.objects import Listing
from llambert_etl.sources.readers import read_rows
from llambert_etl.sources.rows import Limits, Reason, Refusal, SourceObject, printable


class FileDrop(Drop):
    """The files of a partition: each is a piece, and they are listed once, when it is first asked which there are."""

    location: Location

    def __init__(self, source: FileSource, partition: Partition, settings: Settings) -> None:
        self.location = allowed_location(source.uri.replace("{partition}", partition), settings.sources)
        self._source, self._settings = source, settings

    @cached_property
    def listing(self) -> Listing:
        return Listing.of(self.location, self._settings)

    @cached_property
    def key(self) -> str:
        """Identify the files, how the task reads them, and how they are cleaned."""
        source = self._source.model_dump(mode="json")
        objects: list[JsonValue] = [[printable(item.uri), item.size, item.etag] for item in self.listing.objects]
        return fingerprint({"objects": objects, "source": source, "cleaner": CLEANER_VERSION})

    @property
    def pieces(self) -> Sequence[Piece]:
        return [Piece(printable(item.uri), item.size, partial(self._read, item)) for item in self.listing.objects]

    def why_empty(self) -> str | None:
        return self.listing.why_empty()

    def verify_unchanged(self) -> None:
        self.listing.verify_unchanged()

    def _read(self, item: SourceObject) -> Rows:
        key = item.uri.partition("://")[2].partition("/")[2] if "://" in item.uri else item.uri.removeprefix("/")
        if not is_safe_key(key):
            yield Refusal("line 1", Reason.FILE_UNSAFE_NAME)
            return
        with closing(self.listing.open(item)) as raw:
            yield from read_rows(raw, item.uri, item.size, self._source, Limits())
