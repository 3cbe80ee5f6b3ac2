"""The grid of pictures for the README: 64 Japanese prompts, all with one seed, none chosen."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from backend_gpu.glide.config import Pixels
from backend_gpu.glide.pipeline import Picture, Pipeline, Sampling
from backend_gpu.streams import write_line
from backend_gpu.training.fonts import label_font

PROMPTS = Path(__file__).parent / "grid_prompts.txt"
SEED = 0
BATCH_SIZE = 8


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How pictures lie on a sheet, each above its label; in pixels."""

    columns: int
    side: int  # of a picture
    font_size: int
    gap: int = 6  # between pictures, and around them
    lines: int = 2  # of a label, at most

    @property
    def line_height(self) -> int:
        """From one line of a label to the next."""
        return self.font_size + 4


GRID = Layout(columns=8, side=128, font_size=13)


@dataclass(frozen=True)
class Prompt:
    """What a person writes, and the English that the offline translator makes of it."""

    japanese: str
    english: str


def read_prompts(path: Path = PROMPTS) -> list[Prompt]:
    """Read lines of Japanese, tab, English."""
    return [Prompt(*line.split("\t")) for line in path.read_text(encoding="utf-8").splitlines()]


def draw_grid(pipeline: Pipeline, sampling: Sampling, guidance_scale: float) -> Image.Image:
    """Make a picture for every prompt and lay them out with their prompts; shows its progress."""
    prompts = read_prompts()
    asked = [Picture(prompt=prompt.english, seed=SEED, guidance_scale=guidance_scale) for prompt in prompts]
    pictures = draw_all(pipeline, asked, sampling)
    font, languages = label_font("sans:lang=ja", GRID.font_size)
    if "ja" in languages:
        return lay_out(pictures, [prompt.japanese for prompt in prompts], font, GRID)
    write_line("No font for Japanese is installed (fonts-noto-cjk has one): the labels are in English.")
    font, _ = label_font("sans", GRID.font_size)
    return lay_out(pictures, [prompt.english for prompt in prompts], font, GRID)


def draw_all(pipeline: Pipeline, asked: Sequence[Picture], sampling: Sampling) -> list[Pixels]:
    """Make many pictures in batches; shows its progress."""
    pictures: list[Pixels] = []
    with tqdm(total=len(asked), unit="picture") as progress:
        for start in range(0, len(asked), BATCH_SIZE):
            pictures += list(pipeline.draw(asked[start : start + BATCH_SIZE], sampling))
            progress.update(len(pictures) - start)
    return pictures


def lay_out(
    pictures: Sequence[Pixels], labels: Sequence[str], font: ImageFont.FreeTypeFont, layout: Layout
) -> Image.Image:
    """Place the pictures in rows, each above its label."""
    side, gap = layout.side, layout.gap
    cell_height = side + gap + layout.lines * layout.line_height
    rows = -(-len(pictures) // layout.columns)
    sheet = Image.new("RGB", (layout.columns * (side + gap) + gap, rows * cell_height + gap), "white")
    draw = ImageDraw.Draw(sheet)
    for index, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        left, top = gap + index % layout.columns * (side + gap), gap + index // layout.columns * cell_height
        sheet.paste(resized(picture, side), (left, top))
        for number, line in enumerate(broken(label, font, side)[: layout.lines]):
            draw.text((left, top + side + 1 + number * layout.line_height), line, fill=(60, 60, 60), font=font)
    return sheet


def resized(picture: Pixels, side: int) -> Image.Image:
    """The picture as large as its cell."""
    return Image.fromarray(np.asarray(picture)).resize((side, side), Image.Resampling.LANCZOS)


def broken(label: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """The label in lines of at most that many pixels: broken at spaces, or anywhere where there are none."""
    words = [word + " " for word in label.split(" ")] if " " in label else list(label)
    lines = [""]
    for word in words:
        if lines[-1] and font.getlength((lines[-1] + word).rstrip()) > width:
            lines.append("")
        lines[-1] += word
    return lines
