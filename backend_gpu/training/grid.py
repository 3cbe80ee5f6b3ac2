"""The grid of pictures for the README: 64 Japanese prompts, all with one seed, none chosen."""

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
COLUMNS = 8
SIDE, GAP = 128, 6  # pixels
FONT_SIZE, LINES = 13, 2
LINE_HEIGHT = FONT_SIZE + 4


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
    pictures: list[Pixels] = []
    with tqdm(total=len(prompts), desc="grid", unit="picture") as progress:
        for start in range(0, len(prompts), BATCH_SIZE):
            batch = prompts[start : start + BATCH_SIZE]
            asked = [Picture(prompt=prompt.english, seed=SEED, guidance_scale=guidance_scale) for prompt in batch]
            pictures += list(pipeline.draw(asked, sampling))
            progress.update(len(batch))
    font = japanese_font()
    if font is None:
        write_line("No font for Japanese is installed (fonts-noto-cjk has one): the labels are in English.")
        return lay_out(pictures, [prompt.english for prompt in prompts], label_font("sans", FONT_SIZE)[0])
    return lay_out(pictures, [prompt.japanese for prompt in prompts], font)


def lay_out(pictures: list[Pixels], labels: list[str], font: ImageFont.FreeTypeFont) -> Image.Image:
    """Place the pictures in rows, each above its label."""
    cell_height = SIDE + GAP + LINES * LINE_HEIGHT
    rows = -(-len(pictures) // COLUMNS)
    grid = Image.new("RGB", (COLUMNS * (SIDE + GAP) + GAP, rows * cell_height + GAP), "white")
    draw = ImageDraw.Draw(grid)
    for index, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        left, top = GAP + index % COLUMNS * (SIDE + GAP), GAP + index // COLUMNS * cell_height
        grid.paste(Image.fromarray(np.asarray(picture)).resize((SIDE, SIDE), Image.Resampling.LANCZOS), (left, top))
        for number, line in enumerate(broken(label, font)):
            draw.text((left, top + SIDE + 1 + number * LINE_HEIGHT), line, fill=(60, 60, 60), font=font)
    return grid


def broken(label: str, font: ImageFont.FreeTypeFont) -> list[str]:
    """The label in lines as wide as a picture: broken at spaces, or anywhere where there are none."""
    words = [word + " " for word in label.split(" ")] if " " in label else list(label)
    lines = [""]
    for word in words:
        if lines[-1] and font.getlength((lines[-1] + word).rstrip()) > SIDE:
            lines.append("")
        lines[-1] += word
    return lines[:LINES]


def japanese_font() -> ImageFont.FreeTypeFont | None:
    """A font that has Japanese, if there is one."""
    font, languages = label_font("sans:lang=ja", FONT_SIZE)
    return font if "ja" in languages else None
