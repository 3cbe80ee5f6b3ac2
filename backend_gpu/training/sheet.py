"""Every thing that a model knows, drawn once: on a labelled sheet to look at, and as the sprites that a page shows."""

import io
import json
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from backend_gpu.files import write_file
from backend_gpu.glide.config import Pixels
from backend_gpu.glide.pipeline import Picture, Pipeline, Sampling
from backend_gpu.mini.metadata import SPRITE_INDEX, SPRITES
from backend_gpu.mini.vocabulary import with_article
from backend_gpu.training.fonts import label_font
from backend_gpu.training.grid import SEED, Layout, draw_all, lay_out, resized

SHEET = Layout(columns=26, side=110, font_size=11)
SPRITE_SIDE, SPRITE_COLUMNS = 64, 26
SPRITE_QUALITY = 80  # of 100


def draw_things(pipeline: Pipeline, things: Sequence[str], sampling: Sampling, guidance_scale: float) -> list[Pixels]:
    """Make a plain picture of each thing, "a dog" for "dog"; shows its progress."""
    asked = [Picture(prompt=with_article(thing), seed=SEED, guidance_scale=guidance_scale) for thing in things]
    return draw_all(pipeline, asked, sampling)


def label_things(pictures: Sequence[Pixels], things: Sequence[str]) -> Image.Image:
    """All pictures with their names on one sheet.

    Raises:
        BackendError: fontconfig is missing.
    """
    return lay_out(pictures, things, label_font("sans", SHEET.font_size)[0], SHEET)


def write_sprites(pictures: Sequence[Pixels], things: Sequence[str], folder: Path) -> Path:
    """Put all pictures into one small file without gaps, row by row, and beside it what is in which cell.

    Args:
        folder: of the model's weights, where the service looks for them.

    Returns: the file with the pictures.

    Raises:
        BackendError: the folder can't be written to.
    """
    rows = -(-len(pictures) // SPRITE_COLUMNS)
    sprites = Image.new("RGB", (SPRITE_COLUMNS * SPRITE_SIDE, rows * SPRITE_SIDE), "white")
    for index, picture in enumerate(pictures):
        row, column = divmod(index, SPRITE_COLUMNS)
        sprites.paste(resized(picture, SPRITE_SIDE), (column * SPRITE_SIDE, row * SPRITE_SIDE))
    encoded = io.BytesIO()
    sprites.save(encoded, "WEBP", quality=SPRITE_QUALITY, method=6)
    index_of = {"side": SPRITE_SIDE, "columns": SPRITE_COLUMNS, "things": list(things)}
    write_file(folder / SPRITES, encoded.getvalue())
    write_file(folder / SPRITE_INDEX, (json.dumps(index_of, ensure_ascii=False) + "\n").encode())
    return folder / SPRITES
