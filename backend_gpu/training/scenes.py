"""Captioned pictures: emoji glyphs on drawn backgrounds, at any size."""

import functools
import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from backend_gpu.errors import ConceptTableError
from backend_gpu.glide.config import Pixels
from backend_gpu.mini.vocabulary import Concept, Vocabulary, with_article
from backend_gpu.training.fonts import emoji_font
from backend_gpu.training.tints import SHADES, Shades, tinted

COUNT_POSITIONS = {
    2: ((0.27, 0.5), (0.73, 0.5)),
    3: ((0.5, 0.27), (0.27, 0.72), (0.73, 0.72)),
    4: ((0.27, 0.27), (0.73, 0.27), (0.27, 0.73), (0.73, 0.73)),
}
PAIR_POSITIONS = {
    "to the left of": ((0.27, 0.5), (0.73, 0.5)),
    "to the right of": ((0.73, 0.5), (0.27, 0.5)),
    "above": ((0.5, 0.27), (0.5, 0.73)),
    "below": ((0.5, 0.73), (0.5, 0.27)),
    "and": ((0.27, 0.5), (0.73, 0.5)),
}
SINGLE_SIZE, PART_SIZE = 0.70, 0.42  # sides of the glyphs, as shares of the picture's
PIXEL_ART_CELLS = 16  # across a picture: each is one of the base model's patches
HELD_OUT_ONE_IN = 25  # captions of more than a bare noun

Float = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One picture in words: what is drawn where, and on what."""

    objects: tuple[Concept, ...]
    relation: str = ""  # of the first object to the second, for two different objects
    tint: str = ""  # the colour a single object is drawn in, when not its own
    says_colour: bool = False  # the caption names the colour of the untouched glyph
    background: str = ""  # a colour
    place: str = ""  # one of the vocabulary's scenes
    style: str = ""
    counts: dict[int, str] = field(default_factory=dict, compare=False, repr=False)

    def caption(self) -> str:
        """The English of this scene, in the form that the offline translator writes."""
        first = self.objects[0]
        colour = self.tint or (first.colour if self.says_colour else "")
        if self.relation:
            noun = f"{with_article(first.english)} {self.relation} {with_article(self.objects[1].english)}"
        elif len(self.objects) > 1:
            noun = " ".join(filter(None, (self.counts[len(self.objects)], colour, first.plural)))
        else:
            noun = with_article(f"{colour} {first.english}".strip())
        if self.background:
            noun += f" on {with_article(self.background)} background"
        if self.place:
            noun += f" {self.place}"
        if self.style:
            noun += f", {self.style}"
        return noun

    def positions(self) -> tuple[tuple[float, float], ...]:
        """Centres of the objects, as shares of the side."""
        if self.relation:
            return PAIR_POSITIONS[self.relation]
        return COUNT_POSITIONS.get(len(self.objects), ((0.5, 0.5),))


def is_held_out(scene: Scene) -> bool:
    """Whether training leaves this caption to the evaluation, by a hash that stays the same; never a bare "a dog"."""
    caption = scene.caption()
    is_bare = caption == with_article(scene.objects[0].english)
    return not is_bare and zlib.crc32(caption.encode()) % HELD_OUT_ONE_IN == 0


@dataclass(frozen=True)
class Mix:
    """How often each form of the grammar is drawn; the shares add up to 1."""

    one: float
    tinted: float
    count: float
    pair: float


def random_scene(vocabulary: Vocabulary, mix: Mix, rng: random.Random) -> Scene:
    """Draw a scene whose objects stand out from their background."""
    concepts = vocabulary.concepts
    tintable = [concept for concept in concepts if concept.is_tintable]
    shares = (mix.one, mix.tinted if tintable else 0, mix.count, mix.pair if len(concepts) > 1 else 0)
    form = rng.choices(("one", "tinted", "count", "pair"), shares)[0]
    relation = tint = ""
    objects: tuple[Concept, ...]
    if form == "one":
        objects = (rng.choice(concepts),)
    elif form == "tinted":
        objects = (rng.choice(tintable),)
        tint = rng.choice([colour for colour in vocabulary.colours if colour != objects[0].colour])
    elif form == "count":
        objects = (rng.choice(concepts),) * rng.choice(list(vocabulary.counts.values()))
    else:
        objects = tuple(rng.sample(concepts, 2))
        relation = rng.choice((*vocabulary.positions, "and"))
    background = place = ""
    ground = rng.random()
    if ground < 0.45:
        colours = [name for name in vocabulary.colours if all(stands_out(o, tint, name, vocabulary) for o in objects)]
        background = rng.choice(colours)
    elif ground < 0.75:
        place = rng.choice(vocabulary.scenes)
    return Scene(
        objects=objects,
        relation=relation,
        tint=tint,
        says_colour=bool(objects[0].colour) and not relation and rng.random() < 0.35,
        background=background,
        place=place,
        style=rng.choice(vocabulary.styles) if rng.random() < 0.15 else "",
        counts={number: word for word, number in vocabulary.counts.items()},
    )


def stands_out(concept: Concept, tint: str, background: str, vocabulary: Vocabulary) -> bool:
    """Whether the object's mean colour differs visibly from the background's."""
    ground = np.array(vocabulary.colours[background], np.float32)
    own = np.array(vocabulary.colours[tint], np.float32) if tint else mean_colour(concept)
    return float(np.abs(ground - own).sum()) > 130


def render(scene: Scene, vocabulary: Vocabulary, side: int, rng: random.Random) -> Pixels:
    """Draw a scene as (side, side, 3) uint8 RGB."""
    ground = draw_place(scene.place, side, rng) if scene.place else draw_plain(scene.background, vocabulary, side, rng)
    image = Image.fromarray(ground)
    shades = SHADES[scene.tint] if scene.tint else None
    size = SINGLE_SIZE if len(scene.objects) == 1 else PART_SIZE
    for concept, (x, y) in zip(scene.objects, scene.positions(), strict=True):
        glyph_side = round(side * size * rng.uniform(0.95, 1.05))
        left = round(side * (x + rng.uniform(-0.02, 0.02)) - glyph_side / 2)
        top = round(side * (y + rng.uniform(-0.02, 0.02)) - glyph_side / 2)
        glyph = resized_glyph(concept, shades, glyph_side)
        image.paste(glyph, (left, top), glyph)
    return np.asarray(apply_style(image, scene.style))


def apply_style(image: Image.Image, style: str) -> Image.Image:
    """Redraw a finished picture in a style of the grammar ("" for none)."""
    if style == "pixel art style":
        cells = (PIXEL_ART_CELLS, PIXEL_ART_CELLS)
        return image.resize(cells, Image.Resampling.BOX).resize(image.size, Image.Resampling.NEAREST)
    if style == "black and white":
        return image.convert("L").convert("RGB")
    if style == "watercolor style":
        soft = np.asarray(image.filter(ImageFilter.GaussianBlur(image.width / 64)), np.float32)
        return Image.fromarray((soft * 0.72 + 255 * 0.28).astype(np.uint8))
    if style:
        raise ValueError(f"no renderer for the style {style!r}")
    return image


@functools.cache
def glyph_image(concept: Concept) -> Image.Image:
    """The bitmap of the concept's emoji, or its picture, cropped and centred in a square, RGBA."""
    glyph = concept.glyph
    if Path(glyph).suffix:
        try:
            with Image.open(glyph) as picture:
                canvas = picture.convert("RGBA")
        except OSError as error:
            raise ConceptTableError(f"can't read the picture {glyph}: {error}") from error
    else:
        canvas = Image.new("RGBA", (256, 256), (0, 0, 0, 0))
        ImageDraw.Draw(canvas).text((20, 20), glyph, font=emoji_font(concept.font), embedded_color=True)
    box = canvas.getbbox()
    if box is None:
        raise ConceptTableError(f"there is nothing to see of {glyph!r}: is it in the emoji font?")
    cropped = canvas.crop(box)
    side = max(cropped.size)
    square = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    square.paste(cropped, ((side - cropped.width) // 2, (side - cropped.height) // 2))
    return square


@functools.cache
def mean_colour(concept: Concept) -> Float:
    """Mean RGB of the glyph's opaque pixels."""
    pixels = np.asarray(glyph_image(concept), np.float32)
    return np.asarray(pixels[pixels[..., 3] > 128][:, :3].mean(0), np.float32)


@functools.lru_cache(maxsize=20_000)
def resized_glyph(concept: Concept, shades: Shades | None, side: int) -> Image.Image:
    """A glyph at its size in the picture, RGBA."""
    image = glyph_image(concept)
    if shades is not None:
        image = tinted(image, shades)
    return image.convert("RGBa").resize((side, side), Image.Resampling.LANCZOS).convert("RGBA")


def gradient(side: int, stops: Sequence[tuple[float, Sequence[float] | Float]]) -> Float:
    """A vertical gradient (side, side, 3) through (height 0-1, RGB) stops."""
    heights = np.linspace(0, 1, side, dtype=np.float32)
    places = [place for place, _ in stops]
    column = np.stack([np.interp(heights, places, [colour[k] for _, colour in stops]) for k in range(3)], -1)
    return np.repeat(column[:, None].astype(np.float32), side, axis=1)


def draw_plain(colour: str, vocabulary: Vocabulary, side: int, rng: random.Random) -> Pixels:
    """A background of one colour, light grey if none is named, slightly darker below."""
    middle = np.array(vocabulary.colours[colour] if colour else (238, 238, 240), np.float32)
    middle = middle + np.array([rng.uniform(-5, 5) for _ in range(3)], np.float32)
    slope = rng.uniform(2, 10)
    return gradient(side, [(0, middle + slope), (1, middle - slope)]).clip(0, 255).astype(np.uint8)


PLACES: dict[str, list[tuple[float, tuple[int, int, int]]]] = {
    "at night": [(0, (10, 14, 45)), (0.7, (25, 35, 90)), (1, (40, 50, 105))],
    "in space": [(0, (5, 3, 15)), (0.5, (30, 10, 55)), (1, (8, 5, 25))],
    "on the grass": [(0, (120, 195, 245)), (0.66, (200, 230, 250)), (0.67, (110, 190, 80)), (1, (60, 145, 50))],
    "at the beach": [
        *[(0, (110, 190, 245)), (0.46, (190, 225, 250)), (0.47, (40, 140, 200))],
        *[(0.66, (80, 190, 215)), (0.67, (240, 220, 165)), (1, (225, 195, 130))],
    ],
    "in the snow": [(0, (150, 170, 200)), (0.66, (200, 212, 228)), (0.67, (250, 252, 255)), (1, (230, 238, 248))],
    "at sunset": [(0, (90, 50, 120)), (0.4, (225, 90, 90)), (0.75, (250, 165, 70)), (1, (255, 210, 110))],
    "under the sea": [(0, (60, 180, 215)), (0.8, (10, 70, 140)), (0.81, (190, 170, 120)), (1, (160, 135, 90))],
    "in the desert": [(0, (95, 170, 230)), (0.66, (245, 225, 190)), (0.67, (235, 180, 95)), (1, (205, 140, 65))],
    "in the rain": [(0, (95, 105, 120)), (1, (140, 150, 162))],
    "in the clouds": [(0, (80, 160, 240)), (1, (175, 215, 250))],
}


def draw_place(place: str, side: int, rng: random.Random) -> Pixels:
    """One of the grammar's scenes, empty."""
    sky = gradient(side, PLACES[place]) + rng.uniform(-5, 5)
    image = Image.fromarray(sky.clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    unit = side / 64

    def spots(number: int, height: float = 1.0) -> list[tuple[float, float]]:
        return [(rng.random() * side, rng.random() * side * height) for _ in range(number)]

    def disc(x: float, y: float, radius: float, **paint: Any) -> None:
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), **paint)

    if place in ("at night", "in space"):
        for x, y in spots(18, 0.7 if place == "at night" else 1.0):
            disc(x, y, rng.choice((0.5, 0.5, 0.9)) * unit, fill=(255, 255, 220))
    elif place == "in the snow":
        for x, y in spots(22):
            disc(x, y, rng.choice((0.7, 1.1)) * unit, fill=(255, 255, 255))
    elif place == "in the rain":
        for x, y in spots(26):
            draw.line((x, y, x - 1.5 * unit, y + 5 * unit), fill=(190, 210, 235), width=max(1, int(unit * 0.8)))
    elif place == "in the clouds":
        for x, y in spots(5):
            for shift, lift in ((-7, 0), (0, 3), (7, 0)):
                centre_x, centre_y = x + shift * unit, y - lift * unit
                box = (centre_x - 6 * unit, centre_y - 4 * unit, centre_x + 6 * unit, centre_y + 5 * unit)
                draw.ellipse(box, fill=(250, 252, 255))
    elif place == "under the sea":
        for x, y in spots(8, 0.8):
            disc(x, y, rng.choice((1, 1.6, 2.2)) * unit, outline=(190, 235, 250), width=max(1, int(unit * 0.6)))
    return np.asarray(image)
