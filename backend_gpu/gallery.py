"""The gallery's file format: a PNG that holds everything needed to make it again."""

import io
import json
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from backend_gpu.errors import BackendError

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
    temporary = path.with_name(f".{path.name}.new")
    try:
        temporary.write_bytes(png)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise BackendError(f"can't write {path}: {error.strerror}") from error
