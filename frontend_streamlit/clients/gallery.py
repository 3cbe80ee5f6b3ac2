"""The user's finished pictures: PNG files in a folder or a bucket, readable while the GPU machine is off."""

import io
import json
import logging
import re
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import fsspec
from PIL import Image, UnidentifiedImageError

from frontend_streamlit.clients.model import ModelDescription, read_description

logger = logging.getLogger(__name__)

DESCRIPTION = ".model/description.json"
MAX_DESCRIPTION_BYTES = 4 * 1024**2  # it has some 30 KB; every visit waits while it is read
OWNER = re.compile(r"[A-Za-z0-9_-]{1,64}")
NAME = re.compile(r"[0-9]{8}T[0-9]{6}_[0-9a-f]{32}_[0-9]\.png")
CACHED_PICTURES = 512  # a picture never changes; some 100 KB each
READERS = 12
BUCKET_TIMEOUT_S = 15.0  # gcsfs alone would try for half an hour


class GalleryUnavailable(Exception):
    """The gallery does not answer."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One picture and how it was made."""

    name: str  # of the file
    made_at: datetime
    png: bytes
    record: dict[str, Any]  # the `kotoe` chunk

    @property
    def prompt(self) -> str:
        """English, as the model read it."""
        return str(self.record.get("prompt", ""))

    @property
    def source_prompt(self) -> str:
        """As the user wrote it."""
        return str(self.record.get("source_prompt", "")) or self.prompt

    @property
    def seed(self) -> int:
        """The seed of this picture."""
        return int(self.record.get("seed", 0))

    def matches(self, words: str) -> bool:
        """Whether every one of the words stands in one of the prompts."""
        text = f"{self.prompt} {self.source_prompt}".casefold()
        return all(word in text for word in words.casefold().split())


class Gallery:
    """`<root>/<owner>/<time>_<job>_<index>.png`. Every method raises GalleryUnavailable if it can't be reached."""

    def __init__(self, root: str) -> None:
        self.root = root.rstrip("/") or "/"
        self._open = lru_cache(maxsize=CACHED_PICTURES)(self._read)

    def names(self, owner: str) -> list[str]:
        """The owner's files, newest first."""
        folder = f"{self.root}/{checked(owner)}"
        with access_to(folder) as (files, options):
            try:
                paths = files.ls(folder, detail=False, refresh=True, **options)
            except FileNotFoundError:
                return []
        names = (path.rsplit("/", 1)[-1] for path in paths)
        return sorted((name for name in names if NAME.fullmatch(name)), reverse=True)

    def picture(self, owner: str, name: str) -> Picture | None:
        """One picture; None if it was deleted meanwhile or is no picture of ours."""
        if checked(owner) and NAME.fullmatch(name):
            with suppress(NoPicture):
                return self._open(owner, name)
        return None

    def pictures(self, owner: str, names: Sequence[str]) -> list[Picture]:
        """Those of the names that are pictures, read side by side: a bucket takes its time for each."""
        with ThreadPoolExecutor(READERS) as readers:
            found = list(readers.map(lambda name: self.picture(owner, name), names))
        return [picture for picture in found if picture is not None]

    def search(self, owner: str, words: str) -> list[str]:
        """The files whose prompts have all these words, newest first."""
        names = self.names(owner)
        if not words.strip():
            return names
        return [picture.name for picture in self.pictures(owner, names) if picture.matches(words)]

    def delete(self, owner: str, name: str) -> None:
        """Remove a picture; one that is gone already is fine."""
        path = f"{self.root}/{checked(owner)}/{name}"
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no picture's name")
        with access_to(path) as (files, options), suppress(FileNotFoundError):
            files.rm_file(path, **options)
        self._open.cache_clear()

    def description(self) -> ModelDescription | None:
        """The model that draws into this gallery, as its service wrote it down; None if nothing legible is there."""
        path = f"{self.root}/{DESCRIPTION}"
        with access_to(path) as (files, options):
            try:
                content = files.cat_file(path, end=MAX_DESCRIPTION_BYTES, **options)
            except (FileNotFoundError, IsADirectoryError):
                return None
        try:
            return read_description(json.loads(content))
        except (ValueError, RecursionError):
            logger.warning("the description of the model is broken or of another version", extra={"path": path})
            return None

    def _read(self, owner: str, name: str) -> Picture:
        path = f"{self.root}/{owner}/{name}"
        with access_to(path) as (files, options):
            try:
                png = files.cat_file(path, **options)
            except (FileNotFoundError, IsADirectoryError) as error:
                raise NoPicture(name) from error
        try:
            with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
                image.load()
                record = json.loads(image.info.get("kotoe", "{}"))
            made_at = datetime.strptime(name.partition("_")[0], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
        except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:  # Pillow's word for a broken PNG
            raise NoPicture(name) from error
        if not isinstance(record, dict):
            raise NoPicture(name)
        return Picture(name=name, made_at=made_at, png=png, record=record)


class NoPicture(Exception):
    """A file that is not there, or is no picture of ours."""


@contextmanager
def access_to(path: str) -> Iterator[tuple[fsspec.AbstractFileSystem, dict[str, float]]]:
    """The file system of a path, and options for every call of it."""
    try:
        if path.startswith("gs://"):
            # gcsfs.GCSFileSystem asks for the kind of bucket by gRPC first; this one speaks HTTP alone, and is enough
            from gcsfs.core import GCSFileSystem  # here: it takes half a second, and few need it

            yield GCSFileSystem(), {"timeout": BUCKET_TIMEOUT_S}
        else:
            yield fsspec.core.url_to_fs(path)[0], {}
    except (FileNotFoundError, NoPicture):
        raise
    except Exception as error:  # each file system has errors of its own
        raise GalleryUnavailable(str(error) or type(error).__name__) from error


def checked(owner: str) -> str:
    """The owner, if it is one safe path segment."""
    if not OWNER.fullmatch(owner):
        raise ValueError(f"{owner[:80]!r} is no owner's name")
    return owner


def zipped(pictures: Sequence[Picture]) -> bytes:
    """A zip file of pictures."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for picture in pictures:
            archive.writestr(picture.name, picture.png)
    return buffer.getvalue()
