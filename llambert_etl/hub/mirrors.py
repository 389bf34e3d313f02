"""Models of the hub: mirrored into the lake with their hashes, and found again by whoever opens one."""

import datetime
import logging
import os
import re
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from llambert_etl.errors import ConfigError
from llambert_etl.hub.client import Check, Hub, HubCommit, HubFile
from llambert_etl.settings import Settings
from llambert_etl.store.copies import cached, drop_unused, mismatch
from llambert_etl.store.folders import Folder
from llambert_etl.store.storage import Storage

logger = logging.getLogger(__name__)

# Below the lake, and below the state folder of whoever has a copy.
_ROOT = "_hub"
# Weights that cannot run, the tokenizer and configuration; no pickle, no code, and nothing in a folder of its own.
_FILES = re.compile(
    r"model(-\d{5}-of-\d{5})?\.safetensors|model\.safetensors\.index\.json|chat_template\.jinja"
    r"|(config|generation_config|tokenizer|tokenizer_config|special_tokens_map|added_tokens|chat_template|vocab)\.json"
    r"|vocab\.txt|merges\.txt|word_(shape|pronunciation)\.json|(tokenizer|spiece|spm|sentencepiece(\.bpe)?)\.model"
)


class Mirrored(NamedTuple):
    """A model in the lake. `fetched`: how many of its files the hub had to be asked for just now."""

    model: str
    revision: str
    uri: str
    files: int
    bytes: int
    fetched: int = 0


def pull(model: str, revision: str, *, storage: Storage, settings: Settings) -> Mirrored:
    """Mirror a model into the lake: what is there already is verified and kept, and nothing counts before all of it is.

    Raise ConfigError for a model that may not come from the hub or has no safetensors, TransientError where the hub
    is down or breaks off, DataError where it sends another file than it lists.
    """
    settings.allow(model)
    folder = _folder(storage, model, revision)
    hashes, fetched = folder.hashes(), 0
    if hashes is None:
        hashes, fetched = _fill(folder, model, revision, settings)
    return _described(folder, model, revision, hashes, fetched)


def mirrored(storage: Storage) -> list[Mirrored]:
    """Return the models whose mirror in the lake is whole."""
    found = []
    for place in sorted({info.path.rpartition("/")[0] for info in storage.list(_ROOT)}):
        _, organisation, name, revision = place.rsplit("/", 3)
        folder = _folder(storage, f"{organisation}/{name}", revision)
        if (hashes := folder.hashes()) is not None:
            found.append(_described(folder, f"{organisation}/{name}", revision, hashes))
    return found


def _described(folder: Folder, model: str, revision: str, hashes: Mapping[str, str], fetched: int = 0) -> Mirrored:
    sizes = folder.sizes()
    return Mirrored(model, revision, folder.uri, len(hashes), sum(sizes[name] for name in hashes), fetched)


def find_model(model: str, revision: str, settings: Settings) -> Path:
    """Return a local folder with a model: the settings' own, or a verified copy of the lake's mirror or of the hub's.

    Raise ConfigError where the model is in no mirror and the hub is not to be asked.
    """
    own = settings.mirror(model)
    if own is not None:
        return own
    mirror, local = _folder(Storage.from_settings(settings), model, revision), settings.state / _ROOT / model / revision
    hashes = mirror.hashes()
    if hashes is None:
        return _from_hub(local, model, revision, settings)
    mend = f"somebody changed it in {mirror.uri}: delete that folder and run `llambert models pull` again"
    return cached(local, hashes, lambda copy: mirror.get(copy, hashes), f"{model} at {revision}", mend)


def drop_copies(settings: Settings, before: datetime.datetime) -> int:
    """Remove the copies on this machine that nobody has opened since a moment; return how many."""
    return drop_unused(settings.state / _ROOT, "*/*/*", before)


def _from_hub(local: Path, model: str, revision: str, settings: Settings) -> Path:
    """Make `local` whole. The hub is asked only for what is not there, or no longer what it was."""
    kept = _folder(Storage(str(settings.state), {}), model, revision)
    hashes = kept.hashes()
    if hashes is not None and mismatch(local, hashes) is None:
        os.utime(local)  # it is in use
        return local
    _fill(kept, model, revision, settings)
    return local


def _folder(storage: Storage, model: str, revision: str) -> Folder:
    return Folder(storage, _ROOT, *model.split("/"), revision)


def _fill(folder: Folder, model: str, revision: str, settings: Settings) -> tuple[dict[str, str], int]:
    """Make the folder whole; return the sha256 of each file, and how many were fetched."""
    hub = Hub(
        settings,
        f"model {model!r} at {revision}: is in no mirror (run `llambert models pull {model} --revision {revision}` "
        "where the hub can be reached)",
    )
    commit = hub.commit("model", model, revision)
    if commit.sha != revision:
        raise ConfigError(f"{commit}: the hub answers so for {revision}; check LLAMBERT_HUB_ENDPOINT")
    files = [file for file in hub.files(commit) if _FILES.fullmatch(file.path)]
    names = {file.path for file in files}
    if "config.json" not in names or not any(name.endswith(".safetensors") for name in names):
        raise ConfigError(f"{commit}: has no config.json with safetensors weights; choose a revision that has them")
    there = folder.sizes()
    hashes, fetched = {}, 0
    for file in files:
        check = Check(file)
        if there.get(file.path) == file.size:
            deque(check.follow(folder.read(file.path)), maxlen=0)
        if not check.right:
            logger.info("fetching %s of %s, %d bytes", file.path, commit, file.size)
            check = _fetch(hub, commit, file, folder)
            fetched += 1
        hashes[file.path] = check.sha256
    folder.seal(hashes, {file.path: file.size for file in files})
    return hashes, fetched


def _fetch(hub: Hub, commit: HubCommit, file: HubFile, folder: Folder) -> Check:
    check = Check(file)
    folder.write(file.path, hub.read(commit, check))
    return check
