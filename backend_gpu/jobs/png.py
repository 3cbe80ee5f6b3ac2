"""A finished picture as a PNG that holds everything needed to make it again."""

import io
import json
import zlib
from typing import Any

from PIL import Image, PngImagePlugin

from backend_gpu.engine import EngineInfo, Pixels
from backend_gpu.jobs.request import JobRequest
from backend_gpu.plain_text import without_controls

FAST_PNG = zlib.Z_RLE  # a mini picture in 4.5 ms and 74 kB; with zlib's default in 20 ms and 81 kB
SAMPLER_NAMES = {"ddpm": "DDPM", "ddim": "DDIM", "dpmpp_2m": "DPM++ 2M"}  # as other programs write them
OF_THE_JOB = ("n", "owner")  # fields of a request that say nothing about one picture


def encode_png(pixels: Pixels, request: JobRequest, index: int, info: EngineInfo) -> bytes:
    """Picture `index` of a request, (H, W, 3) RGB; how it was made is in the text chunks `parameters` and `kotoe`.

    `kotoe` is JSON: the request's fields with this picture's seed, the hash of the weights, and `versions`.
    """
    height, width = pixels.shape[:2]
    record: dict[str, Any] = request.to_json() | {"seed": request.seed_of(index), "model_hash": info.model_hash}
    for name in OF_THE_JOB:
        del record[name]
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("parameters", parameters(record, width, height))
    chunks.add_itxt("kotoe", json.dumps(record | {"versions": dict(info.versions)}, ensure_ascii=False))
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", pnginfo=chunks, compress_type=FAST_PNG)
    return buffer.getvalue()


def parameters(record: dict[str, Any], width: int, height: int) -> str:
    """A record in the convention that other image programs read."""
    settings = {
        "Steps": record["steps"],
        "Sampler": SAMPLER_NAMES.get(record["sampler"], record["sampler"]),
        "CFG scale": record["guidance_scale"],
        "Seed": record["seed"],
        "Size": f"{width}x{height}",
        "Model": record["model"],
        "Model hash": record["model_hash"][:10],
    }
    lines = [one_line(record["prompt"])]
    if record["negative_prompt"]:
        lines.append(f"Negative prompt: {one_line(record['negative_prompt'])}")
    lines.append(", ".join(f"{name}: {value}" for name, value in settings.items()))
    return "\n".join(lines)


def one_line(text: str) -> str:
    """A text with single spaces for all white space and for control characters, which break readers of PNG."""
    return " ".join(without_controls(text).split())
