"""The gallery: PNG files that hold everything needed to make them again, in a folder or a bucket."""

import io
import json
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from backend_gpu.errors import BackendError, GalleryUnavailable
from backend_gpu.plain_text import without_controls

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem  # few need it

FAST_PNG = zlib.Z_RLE  # a mini picture in 4.5 ms and 74 kB; with zlib's default in 20 ms and 81 kB
TORCH_VERSION = version("torch")
BUCKET_TIMEOUT_S = 30.0  # gcsfs alone would try for half an hour
SAMPLER_NAMES = {"ddpm": "DDPM", "ddim": "DDIM", "dpmpp_2m": "DPM++ 2M"}  # as other programs write them


@dataclass(frozen=True, kw_only=True)
class PictureRecord:
    """How one picture was made."""

    prompt: str  # English, as the model read it
    source_prompt: str  # as the user wrote it
    translator: str
    negative_prompt: str
    seed: int
    guidance_scale: float
    steps: int
    upsample_steps: int
    sampler: str
    upscale: bool
    model: str
    model_hash: str

    def parameters(self, width: int, height: int) -> str:
        """The record in the convention that other image programs read (chunk `parameters`)."""
        settings = {
            "Steps": self.steps,
            "Sampler": SAMPLER_NAMES[self.sampler],
            "CFG scale": self.guidance_scale,
            "Seed": self.seed,
            "Size": f"{width}x{height}",
            "Model": self.model,
            "Model hash": self.model_hash[:10],
        }
        lines = [one_line(self.prompt)]
        if self.negative_prompt:
            lines.append(f"Negative prompt: {one_line(self.negative_prompt)}")
        lines.append(", ".join(f"{name}: {value}" for name, value in settings.items()))
        return "\n".join(lines)


def one_line(text: str) -> str:
    """A text with single spaces for all white space and for control characters, which break readers of PNG."""
    return " ".join(without_controls(text).split())


def encode_png(pixels: NDArray[np.uint8], record: PictureRecord) -> bytes:
    """A PNG of (H, W, 3) RGB pixels with the record in its text chunks `parameters` and `kotoe` (JSON)."""
    height, width = pixels.shape[:2]
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", record.parameters(width, height))
    info.add_itxt("kotoe", json.dumps(asdict(record) | {"versions": {"torch": TORCH_VERSION}}, ensure_ascii=False))
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", pnginfo=info, compress_type=FAST_PNG)
    return buffer.getvalue()


def write_picture(path: Path, png: bytes, temporary: Path | None = None) -> None:
    """Write a PNG whole or not at all.

    Args:
        temporary: its name until it is whole, beside it; for a sole writer, who thus overwrites what it left when it
            was killed. By default one that nobody else has.

    Raises:
        BackendError: there is no such folder, or it can't be written to.
    """
    temporary = temporary or path.with_name(f".{uuid4().hex}.new")  # not longer than names may be
    try:
        with temporary.open("wb") as file:
            file.write(png)
            file.flush()
            os.fsync(file.fileno())  # else a power cut after the renaming could leave a hole
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise BackendError(f"can't write {path}: {error.strerror}") from error


def sync_folder(folder: Path) -> None:
    """Let the names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def picture_name(created_at: float, job_id: str, index: int) -> str:
    """A picture's file name: the time (UTC) first, so that names sort by age."""
    return f"{datetime.fromtimestamp(created_at, UTC):%Y%m%dT%H%M%S}_{job_id}_{index}.png"


class Gallery:
    """`<root>/<owner>/<name>`; the root is a folder or gs://bucket/folder."""

    def __init__(self, root: str) -> None:
        self.root = root.rstrip("/") or "/"
        self._bucket: AbstractFileSystem | None = None

    def write(self, owner: str, name: str, png: bytes) -> None:
        """Put a picture there, whole or not at all; writing it again changes nothing.

        Raises:
            GalleryUnavailable: it can't be written.
        """
        with self._access():
            if self._is_bucket:  # an object appears when it is complete
                self._open_bucket().pipe_file(
                    f"{self.root}/{owner}/{name}", png, content_type="image/png", timeout=BUCKET_TIMEOUT_S
                )
            else:
                folder = self._folder(owner)
                folder.mkdir(parents=True, exist_ok=True)
                write_picture(folder / name, png, temporary=folder / f".{name}.new")
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
