"""Pictures as callers want them: format and size."""

import functools
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from PIL import ExifTags, Image, PngImagePlugin, TiffTags
from pydantic import BeforeValidator

ImageFormat = Literal["png", "webp", "jpeg"]
ImageSize = Annotated[Literal[64, 256, 512, 1024], BeforeValidator(lambda text: int(text) if text.isdigit() else text)]
QUALITY = 95  # of webp and jpeg, unless the caller chooses

# Pillow's table lacks this tag, and bytes would be written as BYTE: readers of EXIF expect UNDEFINED
TiffTags.TAGS_V2_GROUPS[ExifTags.IFD.Exif][ExifTags.Base.UserComment] = TiffTags.TagInfo(
    ExifTags.Base.UserComment, "UserComment", TiffTags.UNDEFINED, 1
)


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """How a picture is sent."""

    image_format: ImageFormat = "png"
    side: int | None = None  # in pixels; None: as it was drawn
    quality: int = QUALITY  # of webp and jpeg


@functools.lru_cache(maxsize=64)
def encoded(png: bytes, encoding: Encoding) -> bytes:
    """A stored picture in another format or size, with its record; the stored bytes where nothing changes."""
    with PngImagePlugin.PngImageFile(io.BytesIO(png)) as image:
        if encoding.image_format == "png" and encoding.side in (None, image.width):
            return png
        texts = image.text
        side = encoding.side or image.width
        resized = image.resize((side, side), Image.Resampling.LANCZOS) if side != image.width else image.copy()
    buffer = io.BytesIO()
    if encoding.image_format == "png":
        resized.save(buffer, encoding.image_format, pnginfo=png_record(texts))
    else:
        resized.save(buffer, encoding.image_format, quality=encoding.quality, exif=exif_record(texts))
    return buffer.getvalue()


def png_record(texts: Mapping[str, str]) -> PngImagePlugin.PngInfo:
    """The record of a PNG for another one."""
    record = PngImagePlugin.PngInfo()
    for name, text in texts.items():
        record.add_text(name, text)
    return record


def exif_record(texts: Mapping[str, str]) -> Image.Exif:
    """The record of a PNG for other formats: `parameters` where other image programs look for it, `kotoe` beside it."""
    record = Image.Exif()
    if "parameters" in texts:  # a preview has none
        comment = b"UNICODE\0" + texts["parameters"].encode("utf-16-be")
        record.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = comment
        record[ExifTags.Base.ImageDescription] = json.dumps(json.loads(texts["kotoe"]))  # this field is ASCII
    return record
