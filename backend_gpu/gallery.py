"""The gallery: finished pictures, and what the model says of itself, in a folder or a bucket."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from backend_gpu.errors import GalleryUnavailable
from backend_gpu.files import sync_folder, write_file

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem  # few need it

BUCKET_TIMEOUT_S = 30.0  # gcsfs alone would try for half an hour
MODEL_FOLDER = ".model"  # beside the owners' folders; no owner has a dot in the name


def picture_name(created_at: float, job_id: str, index: int) -> str:
    """A picture's file name: the time (UTC) first, so that names sort by age."""
    return f"{datetime.fromtimestamp(created_at, UTC):%Y%m%dT%H%M%S}_{job_id}_{index}.png"


def content_type(name: str) -> str:
    """The media type of a file, by its name: of a picture or of what the model says of itself."""
    return {".json": "application/json", ".png": "image/png", ".webp": "image/webp"}[Path(name).suffix]


class Gallery:
    """`<root>/<owner>/<name>`; the root is a folder or gs://bucket/folder."""

    def __init__(self, root: str) -> None:
        self.root = root.rstrip("/") or "/"
        self._bucket: AbstractFileSystem | None = None

    def write(self, owner: str, name: str, content: bytes) -> None:
        """Put a file there, whole or not at all; writing it again changes nothing.

        Args:
            owner: of a picture; MODEL_FOLDER for what the model says of itself.

        Raises:
            GalleryUnavailable: it can't be written.
        """
        with self._access():
            if self._is_bucket:  # an object appears when it is complete
                self._open_bucket().pipe_file(
                    f"{self.root}/{owner}/{name}", content, content_type=content_type(name), timeout=BUCKET_TIMEOUT_S
                )
            else:
                folder = self._folder(owner)
                folder.mkdir(parents=True, exist_ok=True)
                write_file(folder / name, content, temporary=folder / f".{name}.new")
                sync_folder(folder.parent)

    def read(self, owner: str, name: str) -> bytes | None:
        """A picture; None if there is none of that name.

        Raises:
            GalleryUnavailable: it can't be read.
        """
        with self._access():
            try:
                if not self._is_bucket:
                    return (self._folder(owner) / name).read_bytes()
                content: bytes = self._open_bucket().cat_file(f"{self.root}/{owner}/{name}", timeout=BUCKET_TIMEOUT_S)
            except FileNotFoundError:
                return None
            return content

    @property
    def _is_bucket(self) -> bool:
        return self.root.startswith("gs://")

    def _folder(self, owner: str) -> Path:
        return Path(self.root) / owner

    def _open_bucket(self) -> "AbstractFileSystem":
        bucket = self._bucket
        if bucket is None:
            # gcsfs.GCSFileSystem asks for the kind of bucket by gRPC first; this one speaks HTTP alone, and is enough
            from gcsfs.core import GCSFileSystem  # here: it takes half a second, and few need it

            self._bucket = bucket = GCSFileSystem(skip_instance_cache=True)
        return bucket

    @contextmanager
    def _access(self) -> Iterator[None]:
        """What goes wrong becomes GalleryUnavailable; the next try opens the bucket anew, with credentials of then."""
        try:
            yield
        except Exception as error:  # gcsfs lets many kinds through
            self._bucket = None
            reason = str(error) or type(error).__name__
            raise GalleryUnavailable(
                f"the gallery {self.root} can't be used ({reason}): check the path and rights"
            ) from error
