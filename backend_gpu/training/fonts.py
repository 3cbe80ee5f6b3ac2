"""Fonts: the one that draws the emoji, and those of labels, found through fontconfig."""

import contextlib
import functools
import os
import subprocess

from PIL import ImageFont

from backend_gpu.errors import BackendError

EMOJI_FONT = "Noto Color Emoji"
EMOJI_SIZES = (109, 160, 136, 128, 96, 72)  # of the bitmaps of Noto, Apple and others; 109 is also taken for outlines


@functools.cache
def emoji_font(path: str) -> ImageFont.FreeTypeFont:
    """A colour font at a size that it has: fonts of bitmaps refuse all others.

    Args:
        path: of the font's file; Noto's font if empty.

    Raises:
        BackendError: there is no such font.
    """
    if not path:
        path = matched_font(EMOJI_FONT)[0]
        if "NotoColorEmoji" not in path:
            raise BackendError(f"the font {EMOJI_FONT} is missing: install fonts-noto-color-emoji, or name another")
    for size in EMOJI_SIZES:
        with contextlib.suppress(OSError):
            return ImageFont.truetype(path, size)
    raise BackendError(f"{path} is no font, or its bitmaps have none of the sizes {EMOJI_SIZES}")


def label_font(pattern: str, size: int) -> tuple[ImageFont.FreeTypeFont, list[str]]:
    """The font nearest to fontconfig's pattern, and the languages that it covers.

    Raises:
        BackendError: fontconfig is missing.
    """
    path, index, languages = matched_font(pattern)
    return ImageFont.truetype(path, size, index=index), languages


def matched_font(pattern: str) -> tuple[str, int, list[str]]:
    """File, index within it and languages of the font that fontconfig thinks nearest to a pattern.

    Raises:
        BackendError: fontconfig is missing.
    """
    command = ["fc-match", "--format=%{file}\n%{index}\n%{lang}", pattern]
    try:
        found = os.fsdecode(subprocess.run(command, capture_output=True, check=True).stdout)
    except (OSError, subprocess.CalledProcessError) as error:
        raise BackendError(f"fc-match does not run ({error}): install fontconfig and fonts-noto-color-emoji") from error
    path, index, languages = found.split("\n")
    return path, int(index), languages.split("|")
