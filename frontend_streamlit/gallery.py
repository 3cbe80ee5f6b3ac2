"""The user's finished pictures: PNG files in a folder or a bucket, readable while the GPU machine is off."""

import io
import json
import re
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import fsspec
from PIL import Image, UnidentifiedImageError

OWNER = re.compile(r"[A-Za-z0-9_-]{1,64}")
NAME = re.compile(r"(\d{8}T\d{6})_([0-9a-f]{32})_(\d)\.png")
CACHED_PICTURES = 512  # a picture never changes; some 100 KB each


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
        self.root = root
        self._open = lru_cache(maxsize=CACHED_PICTURES)(self._read)

    def names(self, owner: str) -> list[str]:
        """The owner's files, newest first."""
        with self._access() as (files, root):
            folder = f"{root}/{checked(owner)}"
            try:
                paths = files.ls(folder, detail=False, refresh=True)
            except FileNotFoundError:
                return []
        names = (path.rsplit("/", 1)[-1] for path in paths)
        return sorted((name for name in names if NAME.fullmatch(name)), reverse=True)

    def picture(self, owner: str, name: str) -> Picture | None:
        """One picture; None if it was deleted meanwhile or is no picture of ours."""
        return self._open(checked(owner), name)

    def search(self, owner: str, words: str) -> list[str]:
        """The files whose prompts have all these words, newest first."""
        names = self.names(owner)
        if not words.strip():
            return names
        return [name for name in names if (picture := self.picture(owner, name)) and picture.matches(words)]

    def delete(self, owner: str, name: str) -> None:
        """Remove a picture; one that is gone already is fine."""
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no picture's name")
        with self._access() as (files, root), suppress(FileNotFoundError):
            files.rm_file(f"{root}/{checked(owner)}/{name}")
        self._open.cache_clear()

    def _read(self, owner: str, name: str) -> Picture | None:
        match = NAME.fullmatch(name)
        if match is None:
            return None
        with self._access() as (files, root):
            try:
                png = files.cat_file(f"{root}/{owner}/{name}")
            except FileNotFoundError:
                return None
        try:
            with Image.open(io.BytesIO(png)) as image:
                image.load()
                record = json.loads(image.info.get("kotoe", "{}"))
        except (UnidentifiedImageError, OSError, ValueError):
            return None
        made_at = datetime.strptime(match[1], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
        return Picture(name=name, made_at=made_at, png=png, record=record)

    @contextmanager
    def _access(self) -> Iterator[tuple[fsspec.AbstractFileSystem, str]]:
        try:
            yield fsspec.core.url_to_fs(self.root)
        except FileNotFoundError:
            raise
        except Exception as error:  # each file system has errors of its own
            raise GalleryUnavailable(str(error)) from error


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
