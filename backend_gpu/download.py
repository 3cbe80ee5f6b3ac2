"""Fetching one large file: with progress, resumed where it stopped, checked, and never half in place."""

import errno
import fcntl
import hashlib
import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

import requests
from tqdm import tqdm

from backend_gpu.errors import CheckpointError
from backend_gpu.files import atomically

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 10, 60
RETRY_DELAYS_S = (1.0, 2.0, 4.0, 8.0)
CHUNK_BYTES = 2**18


class TransferStopped(Exception):
    """This request brought no more, another one may."""


@dataclass(frozen=True, kw_only=True)
class Version:
    """Which version of the remote file a `.part` is the beginning of."""

    validator: str  # strong ETag or Last-Modified; empty if the server gave neither, and nothing can be resumed
    size: int | None  # bytes of the whole file; None if the server did not say


def fetch(url: str, path: Path, retry_delays_s: Sequence[float] = RETRY_DELAYS_S) -> str:
    """Download url to path, unless that exists; either way check it against the sha256 recorded beside it.

    What arrived before an interruption stays in `<path>.part`, and this call or a later one goes on from there.

    Returns: the hexadecimal sha256.

    Raises:
        CheckpointError: it could not be fetched, stored or verified; the message says what to do.
    """
    with file_access(path):
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            part = _beside(path, ".part")
            _download(url, part, retry_delays_s)
            part.replace(path)
            _version_file(part).unlink(missing_ok=True)
        return _verified_sha256(path)


def _verified_sha256(path: Path) -> str:
    """Hex sha256 of a file: recorded in `<path>.sha256` (the format of sha256sum) at first, compared with it later."""
    record = _beside(path, ".sha256")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not record.exists():
        with atomically(record, _beside(record, ".new")) as new:
            new.write_text(f"{digest}  {path.name}\n", encoding="ascii")
    recorded = record.read_text(encoding="ascii", errors="replace")
    if recorded.split()[:1] != [digest]:
        raise CheckpointError(
            f"{path} has changed since it was fetched (its sha256 is not the one in {record.name}): "
            "delete both files to fetch it again"
        )
    return digest


@contextmanager
def file_access(path: Path) -> Iterator[None]:
    """Turn what the file system refuses into a CheckpointError."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            reason = "the disk is full: free some space and try again; what is fetched already is kept"
        else:
            reason = f"{error.strerror or error}: make the folder writable or choose another one"
        raise CheckpointError(f"can't read or write {path}: {reason}") from error


@contextmanager
def exclusively(path: Path) -> Iterator[None]:
    """Wait until no other process holds the lock file at path, and hold it."""
    with path.open("wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info("another process prepares these weights: waiting for it", extra={"lock": str(path)})
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _beside(path: Path, suffix: str) -> Path:
    """The file of the same name with one more suffix."""
    return path.with_name(path.name + suffix)


def _download(url: str, part: Path, retry_delays_s: Sequence[float]) -> None:
    """Complete part; requests that bring it further than ever before do not count as failures."""
    failures, furthest = 0, 0
    while True:
        try:
            return _request(url, part)
        except TransferStopped as stop:
            fetched = _size(part)
            failures = 1 if fetched > furthest else failures + 1
            furthest = max(furthest, fetched)
            if failures > len(retry_delays_s):
                raise CheckpointError(
                    f"could not fetch {url}: {stop}. Check the network and try again (it goes on after the "
                    f"{_megabytes(fetched)} it has), or put the file at {part.with_suffix('')} yourself"
                ) from stop
            delay_s = retry_delays_s[failures - 1]
            logger.warning("download interrupted (%s), next try in %g s", stop, delay_s, extra={"url": url})
            time.sleep(delay_s)


def _request(url: str, part: Path) -> None:
    """Fetch what part lacks in one request; return only if it is complete."""
    version, have = _read_version(part), _size(part)
    if version and have == version.size:
        return  # stopped between the last byte and the renaming
    headers = {"Accept-Encoding": "identity"}  # else the sizes are those of compressed data
    if version and version.validator and 0 < have < (version.size or 0):
        headers |= {"Range": f"bytes={have}-", "If-Range": version.validator}
    try:
        with requests.get(url, headers=headers, stream=True, timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S)) as response:
            if response.status_code == HTTPStatus.OK:
                _receive(response, part, _version_of(response), 0)
            elif response.status_code == HTTPStatus.PARTIAL_CONTENT and version and _continues(response, version, have):
                _receive(response, part, version, have)
            else:
                _refuse(response, part)
    except (requests.Timeout, requests.ConnectionError, requests.exceptions.ChunkedEncodingError) as error:
        raise TransferStopped(_reason(error, urlsplit(url).hostname)) from error
    except requests.RequestException as error:
        raise CheckpointError(f"could not fetch {url}: {error}") from error


def _receive(response: requests.Response, part: Path, version: Version, have: int) -> None:
    """Write the body into part after its first `have` bytes."""
    missing = (version.size or 0) - have
    free = shutil.disk_usage(part.parent).free
    if missing > free:
        raise CheckpointError(
            f"{part.with_suffix('')} needs {_megabytes(missing)} more, and {part.parent} has {_megabytes(free)} free: "
            "free some space or choose another folder"
        )
    with (
        part.open("r+b" if have else "wb") as file,
        tqdm(
            desc=part.stem,
            total=version.size,
            initial=have,
            unit="B",
            unit_scale=True,
            mininterval=0.2 if sys.stderr.isatty() else 10,  # a log gets a line now and then
        ) as bar,
    ):
        file.seek(have)
        if not have:
            _version_file(part).write_text(json.dumps(asdict(version)), encoding="utf-8")
        for chunk in response.iter_content(CHUNK_BYTES):
            file.write(chunk)
            bar.update(len(chunk))
        file.flush()
        os.fsync(file.fileno())  # else a power cut after the renaming could leave a hole
    if version.size is not None and _size(part) != version.size:
        raise TransferStopped(f"only {_megabytes(_size(part))} of {_megabytes(version.size)} arrived")


def _refuse(response: requests.Response, part: Path) -> None:
    """Raise what an answer without usable content means."""
    status = response.status_code
    if status in (HTTPStatus.PARTIAL_CONTENT, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE):
        part.unlink(missing_ok=True)  # it does not fit the remote file any more: the next request starts again
        raise TransferStopped("the file on the server has changed")
    if status >= 500 or status in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS):
        raise TransferStopped(f"{urlsplit(response.url).hostname} answers {status} {response.reason}")
    raise CheckpointError(
        f"{response.url} answers {status} {response.reason}: the file is no longer offered there. "
        f"Get it elsewhere and put it at {part.with_suffix('')}"
    )


def _reason(error: requests.RequestException, host: str | None) -> str:
    if isinstance(error, requests.exceptions.SSLError):
        return f"{host} has no valid certificate"
    if isinstance(error, requests.exceptions.ProxyError):
        return "the proxy does not answer"
    if isinstance(error, requests.Timeout):
        return f"{host} does not answer"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return f"{host} closed the connection too early"
    return f"no connection to {host}"


def _version_of(response: requests.Response) -> Version:
    etag = response.headers.get("ETag", "")
    validator = etag if etag.startswith('"') else response.headers.get("Last-Modified", "")  # W/ tags can't be resumed
    length = response.headers.get("Content-Length", "")
    return Version(validator=validator, size=int(length) if length.isdecimal() else None)


def _continues(response: requests.Response, version: Version, have: int) -> bool:
    """Whether a 206 is the rest of just this version; some servers ignore If-Range."""
    if version.size is None or _version_of(response).validator not in ("", version.validator):
        return False
    return response.headers.get("Content-Range") == f"bytes {have}-{version.size - 1}/{version.size}"


def _read_version(part: Path) -> Version | None:
    try:
        return Version(**json.loads(_version_file(part).read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def _version_file(part: Path) -> Path:
    return _beside(part, ".json")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
