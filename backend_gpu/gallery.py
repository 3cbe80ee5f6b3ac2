"""The gallery: PNG files that hold everything needed to make them again, in a folder or a bucket."""

import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from uuid import uuid4

import fsspec
import numpy as np
from fsspec.implementations.local import LocalFileSystem
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from backend_gpu.errors import BackendError, GalleryUnavailable

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
        lines = [" ".join(self.prompt.split())]
        if self.negative_prompt:
            lines.append(f"Negative prompt: {' '.join(self.negative_prompt.split())}")
        lines.append(", ".join(f"{name}: {value}" for name, value in settings.items()))
        return "\n".join(lines)


def encode_png(pixels: NDArray[np.uint8], record: PictureRecord) -> bytes:
    """A PNG of (H, W, 3) RGB pixels with the record in its text chunks `parameters` and `kotoe` (JSON)."""
    height, width = pixels.shape[:2]
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", record.parameters(width, height))
    versions = {"torch": version("torch")}
    info.add_itxt("kotoe", json.dumps(asdict(record) | {"versions": versions}, ensure_ascii=False))
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def write_picture(path: Path, png: bytes) -> None:
    """Write a PNG whole or not at all.

    Raises:
        BackendError: there is no such folder, or it can't be written to.
    """
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.new")
    try:
        with temporary.open("wb") as file:
            file.write(png)
            file.flush()
            os.fsync(file.fileno())  # else a power cut after the renaming could leave a hole
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise BackendError(f"can't write {path}: {error.strerror}") from error


def picture_name(created_at: float, job_id: str, index: int) -> str:
    """A picture's file name: the time (UTC) first, so that names sort by age."""
    return f"{datetime.fromtimestamp(created_at, UTC):%Y%m%dT%H%M%S}_{job_id}_{index}.png"


class Gallery:
    """`<root>/<owner>/<name>`; the root is a folder or what fsspec opens, such as gs://bucket/folder."""

    def __init__(self, root: str) -> None:
        self.root = root

    def write(self, owner: str, name: str, png: bytes) -> None:
        """Put a picture there, whole or not at all; writing it again changes nothing.

        Raises:
            GalleryUnavailable: it can't be written.
        """
        with self._access() as (files, root):
            path = f"{root}/{owner}/{name}"
            if isinstance(files, LocalFileSystem):
                Path(path).parent.mkdir(parents=True, exist_ok=True)
                write_picture(Path(path), png)
            else:
                files.pipe_file(path, png)  # an object appears when it is complete

    def read(self, owner: str, name: str) -> bytes | None:
        """A picture; None if there is none of that name.

        Raises:
            GalleryUnavailable: it can't be read.
        """
        with self._access() as (files, root):
            try:
                content: bytes = files.cat_file(f"{root}/{owner}/{name}")
            except FileNotFoundError:
                return None
            return content

    @contextmanager
    def _access(self) -> Iterator[tuple[fsspec.AbstractFileSystem, str]]:
        """The file system and the root on it; what either raises becomes GalleryUnavailable."""
        try:
            yield fsspec.core.url_to_fs(self.root)
        except Exception as error:  # each file system has errors of its own
            raise GalleryUnavailable(
                f"the gallery {self.root} can't be used ({error}): check the path and rights"
            ) from error
