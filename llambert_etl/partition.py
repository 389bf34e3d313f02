"""The partition: one UTC day, the unit of every run, every table and every command."""

import datetime
import re
from typing import NewType

from llambert_etl.errors import ConfigError

Partition = NewType("Partition", str)

# Nothing landed before. A day of earlier centuries is a slip of the hand, and some arithmetic of days ends at year 1.
EARLIEST = Partition("1970-01-01")

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


def parse_partition(value: str) -> Partition:
    """Accept exactly `YYYY-MM-DD`; raise ConfigError otherwise.

    Airflow renders the key of a run that has none as the string `None`: that too is refused, for nothing may fall back
    to today.
    """
    if value in ("", "None"):
        raise ConfigError("no partition: this run has no partition key; trigger it with one, such as 2026-11-10")
    try:
        if not _DAY.fullmatch(value):
            raise ValueError(value)
        datetime.date.fromisoformat(value)
    except ValueError as error:
        raise ConfigError(f"partition {value!r} is not a day: write it as YYYY-MM-DD, such as 2026-11-10") from error
    if value < EARLIEST:
        raise ConfigError(f"partition {value!r} is before {EARLIEST}, the earliest day; mend the year")
    return Partition(value)


def today() -> Partition:
    """Return the UTC day by this machine's clock. For the command line alone: no row and no decision depends on it."""
    return Partition(datetime.datetime.now(datetime.UTC).date().isoformat())


def refuse_ahead(day: Partition, now: Partition) -> None:
    """Raise ConfigError for a day after `now`: what is done for it would stand in the way of all days before it."""
    if day > now:
        raise ConfigError(
            f"partition {day} has not begun: by this machine's clock it is {now} (UTC); mend the day or the clock, or "
            "add --allow-future where it is meant (LLAMBERT_ALLOW_FUTURE=true for all that Airflow runs)"
        )


def day_before(day: Partition) -> Partition:
    return Partition(str(datetime.date.fromisoformat(day) - datetime.timedelta(days=1)))
