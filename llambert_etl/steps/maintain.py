"""Keep the lake, and this machine's state folder, small: merge small files, delete what nothing can need any more."""

import datetime
import logging

from llambert_etl import copies
from llambert_etl.encoder import kept
from llambert_etl.exports.snapshots import drop_old_snapshots
from llambert_etl.lake import Lake
from llambert_etl.models import drop_unused
from llambert_etl.schemas import TABLES
from llambert_etl.settings import Settings

logger = logging.getLogger(__name__)

# Never less: a running night's staged files are younger than this, and a vacuum would take them.
RETENTION_DAYS = 7


def maintain(*, lake: Lake, settings: Settings, days: int = RETENTION_DAYS) -> dict[str, dict[str, int]]:
    """Compact and vacuum every table, drop old notes, exports and models; return what was merged and removed."""
    done: dict[str, dict[str, int]] = {}
    for table in TABLES:
        done[table] = lake.compact(table, days * 24)
        logger.info("%s: %s files merged, %s removed", table, done[table]["merged"], done[table]["removed"])
    oldest = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=days)
    done["staging notes"] = {"merged": 0, "removed": lake.drop_notes(oldest)}
    done["exports"] = {"merged": 0, "removed": drop_old_snapshots(lake, oldest)}
    done["models"] = {"merged": 0, "removed": drop_unused(lake, oldest)}
    done["checkpoints"] = {"merged": 0, "removed": kept.drop_old(lake, oldest)}
    local = sum(copies.drop_unused(root, oldest) for root in (settings.model_cache, settings.candidates))
    done["local copies"] = {"merged": 0, "removed": local}
    return done
