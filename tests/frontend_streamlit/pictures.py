"""Picture files as the backend writes them."""

import io
import json
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin

RECORD = {
    "prompt": "a red apple on a blue background",
    "source_prompt": "青い背景に赤いりんご",
    "translator": "offline",
    "negative_prompt": "",
    "seed": 7,
    "guidance_scale": 3.5,
    "steps": 12,
    "upsample_steps": 3,
    "sampler": "ddim",
    "upscale": True,
    "model": "kotoe-mini",
    "model_hash": "0" * 64,
}


def png_of(**record: Any) -> bytes:
    """A small PNG with its record."""
    info = PngImagePlugin.PngInfo()
    info.add_itxt("kotoe", json.dumps(RECORD | record, ensure_ascii=False))
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def put_picture(root: Path, owner: str, number: int, **record: Any) -> str:
    """Lay a picture into the gallery; a higher number is newer. Returns its name."""
    name = f"20261125T{number // 3600:02}{number // 60 % 60:02}{number % 60:02}_{number:032x}_0.png"
    folder = root / owner
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(png_of(**record))
    return name
