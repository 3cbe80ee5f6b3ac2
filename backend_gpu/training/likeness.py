"""The evaluation's instrument for looks: how far a picture is from the nearest render of its scene.

The classifier says which thing a picture shows and forgives what an eye sees first: grain, blur, missing parts. So each
object of a picture is laid over renders of its scene, by the best small shift, and compared in overlapping cells of an
eighth of the picture's side. What counts of the nearest render is the larger of two numbers:

- form: the largest difference of mean colours in one cell, as a share of the object's own (its cells' largest
  difference from its mean colour). Missing, melted and wrongly coloured parts cost.
- texture: how far the cells' mean steps between neighbouring pixels are off, as a share of the object's own (root mean
  squares over the object). Blur takes steps away, grain adds some.

A line that lies a pixel beside its place costs next to nothing in either, as to the eye; in a plain difference of
pixels or of gradients it costs more than heavy blur. 0 is the same picture. Of several objects the worst counts. The
ground away from the objects, where stars and rain fall anywhere, is not looked at.

The gate is from renders alone, without style: it is the geometric mean of what 95% of fresh ones keep to (0.29 at
64 px) and what 95% of those blurred, noised or with a part missing as `SPOILED` has it go beyond (0.40). `calibrate`
measures how well it parts them.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import EllipsisType

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from torch import Tensor

from backend_gpu.glide.config import Pixels
from backend_gpu.mini.vocabulary import Vocabulary
from backend_gpu.training.scenes import (
    PART_SIZE,
    SINGLE_SIZE,
    Mix,
    Scene,
    apply_style,
    draw_place,
    draw_plain,
    random_scene,
    render,
)

GATE = 0.34  # a picture is clear up to here
RENDERS = 16  # of a scene
FIRST_SEED = 1_000_000  # of the renders
WINDOW = 0.6  # half the side of an object's window, of its nominal size
MARGIN = 1 / 64  # of the picture's side: so much around an object belongs to it
MAX_SHIFT = 0.05  # of the picture's side
CELLS = 8  # across a picture, side by side; as many again lie half-way between
MIX = Mix(one=0.5, tinted=0, count=0.2, pair=0.3)  # of the scenes that the gate is tried on
VISIBLE = 8  # of 255: pixels that an object changes by more are its own
SIDES = (64, 256)  # of the base model's pictures and of finished ones
Window = tuple[EllipsisType, slice, slice]


class Renders:
    """Some renders of a scene (no tinted one) at one size, to hold pictures of it against.

    Args:
        side: of the pictures, in pixels; a multiple of 16.
    """

    def __init__(self, scene: Scene, vocabulary: Vocabulary, side: int) -> None:
        seeds = range(FIRST_SEED, FIRST_SEED + RENDERS)
        renders = np.stack([render(scene, vocabulary, side, random.Random(seed)) for seed in seeds])
        grounds = np.stack([bare_ground(scene, vocabulary, side, random.Random(seed)) for seed in seeds])
        margin = round(side * MARGIN)
        masks = F.max_pool2d(torch.tensor(is_object(renders, grounds))[:, None].float(), 2 * margin + 1, 1, margin)
        self.windows = windows(scene, side)
        self.parts = [Part(as_tensor(renders)[window], masks[window], side) for window in self.windows]

    def distance(self, picture: Pixels) -> float:
        """How far a picture (side, side, 3) is from the nearest render."""
        pixels = as_tensor(picture[None])
        return max(part.distance(pixels[window]) for part, window in zip(self.parts, self.windows, strict=True))


class Part:
    """What some renders have in one object's window.

    Args:
        renders: (N, 3, H, W) in [0, 1].
        masks: (N, 1, H, W), 1 where the object is.
        side: of the whole pictures, in pixels.
    """

    def __init__(self, renders: Tensor, masks: Tensor, side: int) -> None:
        self.renders, self.masks = renders, masks
        self.max_shift, self.cell = round(side * MAX_SHIFT), side // CELLS
        self.mask_spectra, self.spectra = torch.fft.rfft2(masks), torch.fft.rfft2(masks * renders)
        self.covered, self.texture = self.cells(masks), self.cells(steps(renders))
        mean = (masks * renders).mean((-1, -2), keepdim=True) / masks.mean((-1, -2), keepdim=True)
        self.own_form, self.own_texture = self.largest(renders - mean), self.mean(self.texture)

    def distance(self, pixels: Tensor) -> float:
        """How far a picture's window (1, 3, H, W) is from the nearest render."""
        laid = self.laid_over(pixels)
        form = self.largest(laid - self.renders) / self.own_form
        texture = self.mean(self.cells(steps(laid)) - self.texture) / self.own_texture
        return float(torch.maximum(form, texture).min())

    def laid_over(self, pixels: Tensor) -> Tensor:
        """The window shifted to where its pixels are nearest to each render's, (N, 3, H, W)."""
        spectra, power = torch.fft.rfft2(pixels), torch.fft.rfft2(pixels.square().sum(1, keepdim=True))
        cross = self.mask_spectra.conj() * power - 2 * (self.spectra.conj() * spectra).sum(1, keepdim=True)
        most, across = self.max_shift, 2 * self.max_shift + 1
        squares = torch.fft.irfft2(cross, s=pixels.shape[-2:]).roll((most, most), (-2, -1))[:, 0, :across, :across]
        best = squares.flatten(1).argmin(1).tolist()
        return torch.cat([pixels.roll((most - at // across, most - at % across), (-2, -1)) for at in best])

    def cells(self, maps: Tensor) -> Tensor:
        """The means over cells, (N, C, rows, columns)."""
        return F.avg_pool2d(maps, self.cell, self.cell // 2)

    def largest(self, differences: Tensor) -> Tensor:
        """The largest length of a cell's mean colour, (N,)."""
        return self.cells(self.masks * differences).square().sum(1).amax((-1, -2)).sqrt()

    def mean(self, textures: Tensor) -> Tensor:
        """The root mean square over the object, (N,)."""
        return (self.covered * textures.square()).sum((-1, -2, -3)).sqrt()


def bare_ground(scene: Scene, vocabulary: Vocabulary, side: int, rng: random.Random) -> Pixels:
    """What `render` draws from the same random numbers, without the objects."""
    ground = draw_place(scene.place, side, rng) if scene.place else draw_plain(scene.background, vocabulary, side, rng)
    return np.asarray(apply_style(Image.fromarray(ground), scene.style))


def is_object(pictures: Pixels, grounds: Pixels) -> NDArray[np.bool_]:
    """Where pictures (..., 3) differ visibly from their bare grounds."""
    return np.asarray(np.abs(pictures.astype(np.int16) - grounds).max(-1) > VISIBLE)


def windows(scene: Scene, side: int) -> list[Window]:
    """The square around each object, as an index of the last two axes."""
    half = WINDOW * (SINGLE_SIZE if len(scene.objects) == 1 else PART_SIZE)

    def extent(centre: float) -> slice:
        return slice(round(side * (centre - half)), round(side * (centre + half)))

    return [(..., extent(y), extent(x)) for x, y in scene.positions()]


def as_tensor(pictures: Pixels) -> Tensor:
    """uint8 (N, H, W, 3) as float32 (N, 3, H, W) in [0, 1]."""
    return torch.tensor(pictures).permute(0, 3, 1, 2).float() / 255


def steps(pictures: Tensor) -> Tensor:
    """The absolute differences of neighbours, across and down, (N, 2 C, H, W)."""
    across, down = pictures.diff(dim=-1).abs(), pictures.diff(dim=-2).abs()
    return torch.cat([F.pad(across, (0, 1)), F.pad(down, (0, 0, 0, 1))], 1)


def renders_of(scene: Scene, vocabulary: Vocabulary) -> list[Renders]:
    """The renders at both sides; none of a tinted scene, since weights may have learned tints of other shades."""
    return [] if scene.tint else [Renders(scene, vocabulary, side) for side in SIDES]


def is_clear(distance: float) -> bool:
    """Whether a picture at that distance from its scene's renders looks like one of them."""
    return distance <= GATE


@dataclass(frozen=True)
class Fresh:
    """A render that is not among `Renders`, with its bare ground, (side, side, 3), and its objects' windows."""

    picture: Pixels
    ground: Pixels
    windows: list[Window]
    seed: int

    def blurred(self, sigma: float) -> Pixels:
        """By a Gaussian of that sigma, in pixels of 64."""
        return np.asarray(
            Image.fromarray(self.picture).filter(ImageFilter.GaussianBlur(sigma * len(self.picture) / 64))
        )

    def noised(self, sigma: float) -> Pixels:
        """With Gaussian noise of that sigma, of 255."""
        noise = np.random.default_rng(self.seed).normal(0, sigma, self.picture.shape)
        return (self.picture + noise).round().clip(0, 255).astype(np.uint8)

    def with_ground_over(self, share: float) -> Pixels:
        """With that share of one object, cut off by a slanting line, painted over with the ground."""
        is_mine = np.zeros(self.picture.shape[:2], np.bool_)
        is_mine[self.windows[self.seed % len(self.windows)][1:]] = True
        rows, columns = np.nonzero(is_mine & is_object(self.picture, self.ground))
        angle = self.seed * 2.4  # the golden angle: all directions
        first = np.argsort(rows * np.sin(angle) + columns * np.cos(angle))[: round(len(rows) * share)]
        painted = self.picture.copy()
        painted[rows[first], columns[first]] = self.ground[rows[first], columns[first]]
        return painted


SPOILED: Mapping[str, Callable[[Fresh], Pixels]] = {  # those that must not be clear
    "blur 1.5": lambda fresh: fresh.blurred(1.5),
    "noise 25": lambda fresh: fresh.noised(25),
    "a quarter missing": lambda fresh: fresh.with_ground_over(0.25),
    "one of several missing": lambda fresh: fresh.with_ground_over(1),
}
TRIED: Mapping[str, Callable[[Fresh], Pixels]] = {
    "untouched": lambda fresh: fresh.picture,
    **{f"blur {sigma:g}": partial(Fresh.blurred, sigma=sigma) for sigma in (0.5, 0.75, 1.0)},
    **{f"noise {sigma:g}": partial(Fresh.noised, sigma=sigma) for sigma in (5, 8, 12)},
    **SPOILED,
}


def calibrate(vocabulary: Vocabulary, side: int, number: int) -> dict[str, float]:
    """The share of fresh renders that are clear, for each way in which they are spoiled, and untouched."""
    rng = random.Random(number)
    is_clear_of: dict[str, list[bool]] = {}
    for seed in range(number):
        scene = replace(random_scene(vocabulary, MIX, rng), style="")
        renders = Renders(scene, vocabulary, side)
        picture = render(scene, vocabulary, side, random.Random(seed))
        ground = bare_ground(scene, vocabulary, side, random.Random(seed))
        fresh = Fresh(picture, ground, renders.windows, seed)
        for name, spoil in TRIED.items():
            if len(scene.objects) > 1 or name != "one of several missing":
                is_clear_of.setdefault(name, []).append(is_clear(renders.distance(spoil(fresh))))
    return {name: float(np.mean(each)) for name, each in is_clear_of.items()}
