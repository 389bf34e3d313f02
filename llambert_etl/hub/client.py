"""The hub over HTTP: what a commit of a model or a data set holds, and its files, each verified."""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

import httpx2  # the hub's client is built on it, and lets its errors through
from huggingface_hub import HfApi, get_session, hf_hub_url, hf_raise_for_status, is_offline_mode, set_client_factory
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import BlobLfsInfo, RepoFile

from llambert_etl.errors import ConfigError, DataError, TransientError
from llambert_etl.settings import Settings

Kind = Literal["model", "dataset"]

_CHUNK = 16 * 1024 * 1024
# The library waits for ever where it is not told otherwise.
_TIMEOUT = httpx2.Timeout(60.0, connect=10.0)


class HubFile(NamedTuple):
    """One file of a commit. `oid` is its sha256 where the hub keeps it as a large file, else git's sha1 of it."""

    path: str
    size: int
    oid: str


class HubCommit(NamedTuple):
    """What a revision of a model or a data set stood for when it was looked up."""

    kind: Kind
    repo: str
    sha: str

    def __str__(self) -> str:
        return f"{self.kind} {self.repo!r} at {self.sha}"


class Check:
    """Follows the content of a file as it goes by, and knows in the end whether it was that file's."""

    def __init__(self, file: HubFile) -> None:
        self.file, self.size = file, 0
        self._sha256 = hashlib.sha256()
        self._git = hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)

    def follow(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the pieces, but no more of them than the file has bytes."""
        for piece in pieces:
            self.size += len(piece)
            if self.size > self.file.size:
                return
            self._sha256.update(piece)
            self._git.update(piece)
            yield piece

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()

    @property
    def right(self) -> bool:
        return self.size == self.file.size and self.file.oid in (self.sha256, self._git.hexdigest())


class Hub:
    """One hub. Whatever its answers say, nothing is asked of a host that the settings do not allow."""

    def __init__(self, settings: Settings, what: str) -> None:
        """Raise ConfigError, which begins with `what`, where the hub is not to be asked."""
        if is_offline_mode():
            raise ConfigError(f"{what}, and the hub is not asked where HF_HUB_OFFLINE is set")
        at = urlsplit(settings.hub_endpoint)
        self._endpoint, self._scheme = settings.hub_endpoint.rstrip("/"), at.scheme
        self._hosts = [str(at.hostname), *settings.hub_hosts]
        # False: a token that lies somewhere on this machine is nobody's consent to send it.
        token = settings.hub_token.get_secret_value() if settings.hub_token else False
        self._headers = {"Accept-Encoding": "identity", **({"Authorization": f"Bearer {token}"} if token else {})}
        self._api = HfApi(endpoint=self._endpoint, token=token)
        # The library has one client in a process, and this hook sees each of its requests, redirected ones included.
        hooks = {"request": [self._guard]}
        set_client_factory(lambda: httpx2.Client(event_hooks=hooks, follow_redirects=True))

    def commit(self, kind: Kind, repo: str, revision: str) -> HubCommit:
        """Look a revision up: a commit, or a branch or tag, which may stand for another one tomorrow."""
        with _hub_faults(f"{kind} {repo!r} at {revision}"):
            sha = self._api.repo_info(repo, repo_type=kind, revision=revision).sha
        return HubCommit(kind, repo, str(sha))

    def files(self, commit: HubCommit, folder: str = "", *, deep: bool = False) -> Iterator[HubFile]:
        """Yield the files in a folder, or below it. One that is not there holds none."""
        with _hub_faults(str(commit)):
            try:
                for entry in self._api.list_repo_tree(
                    commit.repo, folder or None, recursive=deep, revision=commit.sha, repo_type=commit.kind
                ):
                    if isinstance(entry, RepoFile):
                        lfs: BlobLfsInfo | None = entry.lfs
                        yield HubFile(entry.path, entry.size, lfs.sha256 if lfs else entry.blob_id)
            except EntryNotFoundError:
                return

    def read(self, commit: HubCommit, check: Check) -> Iterator[bytes]:
        """Yield the content of `check.file`; raise at its end where it was cut off (TransientError) or is another."""
        what = f"{check.file.path!r} of {commit}"
        url = hf_hub_url(
            commit.repo, check.file.path, repo_type=commit.kind, revision=commit.sha, endpoint=self._endpoint
        )
        try:
            with _hub_faults(what), get_session().stream("GET", url, headers=self._headers) as response:
                hf_raise_for_status(response)
                # Raw: it was asked for unpacked, and what comes packed all the same could fill the memory.
                yield from check.follow(response.iter_raw(_CHUNK))
        except _Absent as error:
            raise TransientError(f"{what}: went after it was listed; run it again") from error
        if check.size < check.file.size:
            raise TransientError(f"{what}: the hub sent {check.size} of {check.file.size} bytes; run it again")
        if not check.right:
            raise DataError(f"{what}: what the hub sent is not the file that it lists (its hash differs); refused")

    def _guard(self, request: httpx2.Request) -> None:
        scheme, host = request.url.scheme, request.url.host
        if scheme not in ("https", self._scheme) or not any(
            host == each or host.endswith(f".{each}") for each in self._hosts
        ):
            raise ConfigError(
                f"the hub sends a request on to {scheme}://{host}, which is not allowed (hosts {self._hosts}, "
                "and no plain http from an https hub); add the host to LLAMBERT_HUB_HOSTS if it is the hub's own"
            )
        request.extensions["timeout"] = _TIMEOUT.as_dict()


class _Absent(ConfigError):
    """The hub has no such thing; what was listed before has gone since."""


@contextmanager
def _hub_faults(what: str) -> Iterator[None]:
    """Raise one of the three errors in place of a failed request in the block."""
    try:
        yield
    except GatedRepoError as error:
        raise ConfigError(
            f"{what}: the hub asks for a licence; accept it there and set LLAMBERT_HUB_TOKEN to that account's token"
        ) from error
    except RepositoryNotFoundError as error:
        raise ConfigError(f"{what}: the hub has none such, or LLAMBERT_HUB_TOKEN may not read it") from error
    except (RevisionNotFoundError, EntryNotFoundError) as error:
        kind = "file" if isinstance(error, EntryNotFoundError) else "revision"
        raise _Absent(f"{what}: the hub has no such {kind}") from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in (408, 429) or status >= 500:
            raise TransientError(f"{what}: the hub answered {status}; try again") from error
        raise ConfigError(
            f"{what}: the hub answered {status}; check LLAMBERT_HUB_TOKEN and LLAMBERT_HUB_ENDPOINT"
        ) from error
    except httpx2.HTTPError as error:
        raise TransientError(f"{what}: the hub cannot be reached ({type(error).__name__}); try again") from error
    except HFValidationError as error:
        raise ConfigError(f"{what}: cannot be a name on the hub") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{what}: the answer is not a hub's ({type(error).__name__}); check LLAMBERT_HUB_ENDPOINT"
        ) from error
