"""Keep the lake, and this machine's state folder, small: merge small files, delete what nothing can need any more."""

import logging

from llambert_etl.encoder import kept
from llambert_etl.exports.snapshots import drop_old_snapshots
from llambert_etl.hub.mirrors import drop_copies
from llambert_etl.labelling.model_files import drop_unused
from llambert_etl.labelling.plan import staged_keys
from llambert_etl.lake import RETENTION, Lake
from llambert_etl.lake.upkeep import (
    delete_old_files,
    drop_checkpoints,
    drop_files,
    drop_indexes,
    drop_notes,
    merge_small_files,
    oldest_kept,
)
from llambert_etl.schemas import TABLES
from llambert_etl.settings import Settings
from llambert_etl.store import copies

logger = logging.getLogger(__name__)

# As long as a table's log has the commits of the runs that wrote a report, or that a study was asked about.
_LOGGED_DAYS = 365
# Models of the hub are large, and one that a weekly retrain opens is not to be fetched each time.
_HUB_DAYS = 28


def maintain(*, lake: Lake, settings: Settings, days: int = RETENTION.days) -> dict[str, dict[str, int]]:
    """Compact and vacuum every table, drop old notes, exports and models; return what was merged and removed."""
    oldest = oldest_kept(lake, days)
    # Notes before files: a run whose files go has no plan any more, and those of the others stay.
    done = {"staging notes": {"merged": 0, "removed": drop_notes(lake, oldest)}}
    named = {"labels": staged_keys(lake)}
    for table in TABLES:
        merged = merge_small_files(lake, table)
        deleted = delete_old_files(lake, table, oldest, named.get(table, set()))
        done[table] = {"merged": merged, "removed": deleted}
        logger.info("%s: %s files merged, %s removed", table, merged, deleted)
    logged = oldest_kept(lake, max(days, _LOGGED_DAYS))
    copied = ((settings.model_cache, "*/*"), (settings.candidates, "*/*"))
    # Of steps whose worker died, and of whatever was killed at work in a scratch folder.
    left = ((settings.state / "steps", "*"), (settings.state, "tmp*"))
    removed = {
        "log checkpoints": sum(drop_checkpoints(lake, table, oldest) for table in TABLES),
        "text indexes": drop_indexes(lake, "labels", oldest),
        "exports": drop_old_snapshots(lake, oldest),
        "models": drop_unused(lake, oldest),
        "checkpoints": kept.drop_old(lake, oldest),
        "reports": drop_files(lake, "_reports", logged),
        "studies": drop_files(lake, "_studies", logged),
        "local copies": drop_copies(settings, oldest_kept(lake, max(days, _HUB_DAYS)))
        + sum(copies.drop_unused(root, pattern, oldest) for root, pattern in (*copied, *left)),
    }
    return done | {what: {"merged": 0, "removed": count} for what, count in removed.items()}
