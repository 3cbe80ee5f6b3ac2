"""Pictures as callers want them: format, size, and URLs that need no token."""

import functools
import hashlib
import hmac
import io
import json
import time
from collections.abc import Mapping
from typing import Annotated, Literal

from PIL import ExifTags, Image, PngImagePlugin, TiffTags
from pydantic import BeforeValidator

from backend_gpu.service import Service

ImageFormat = Literal["png", "webp", "jpeg"]
ImageSize = Annotated[Literal[64, 256, 512, 1024], BeforeValidator(lambda text: int(text) if text.isdigit() else text)]
SIGNED_S = 3600  # a signed URL is good for so long
QUALITY = 95  # of webp and jpeg, unless told

# Pillow's table lacks this tag, and bytes would be written as BYTE: readers of EXIF expect UNDEFINED
TiffTags.TAGS_V2_GROUPS[ExifTags.IFD.Exif][ExifTags.Base.UserComment] = TiffTags.TagInfo(
    ExifTags.Base.UserComment, "UserComment", TiffTags.UNDEFINED, 1
)


@functools.lru_cache(maxsize=64)
def encoded(png: bytes, image_format: ImageFormat, side: int | None = None, quality: int = QUALITY) -> bytes:
    """A stored picture in another format or size, with its record; the stored bytes where nothing changes."""
    with PngImagePlugin.PngImageFile(io.BytesIO(png)) as image:
        if image_format == "png" and side in (None, image.width):
            return png
        texts = image.text
        side = side or image.width
        resized = image.resize((side, side), Image.Resampling.LANCZOS) if side != image.width else image.copy()
    buffer = io.BytesIO()
    if image_format == "png":
        resized.save(buffer, image_format, pnginfo=png_record(texts))
    else:
        resized.save(buffer, image_format, quality=quality, exif=exif_record(texts))
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


def signed_query(service: Service, job_id: str, index: int) -> str:
    """What makes a picture's URL good without the token for an hour; empty where there is no token."""
    if not service.settings.token.get_secret_value():
        return ""
    expires = int(time.time()) + SIGNED_S
    return f"expires={expires}&signature={signature_of(service, job_id, index, expires)}"


def verify_signature(service: Service, job_id: str, index: int, expires: int, signature: str) -> bool:
    """Whether a signed URL is ours and still good."""
    expected = signature_of(service, job_id, index, expires)
    return expires > time.time() and hmac.compare_digest(signature.encode(), expected.encode())


def signature_of(service: Service, job_id: str, index: int, expires: int) -> str:
    """HMAC-SHA256 of which picture and until when, keyed by the token."""
    token = service.settings.token.get_secret_value()
    return hmac.new(token.encode(), f"{job_id} {index} {expires}".encode(), hashlib.sha256).hexdigest()
