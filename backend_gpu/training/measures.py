"""The evaluation's instruments for grounds, tints and styles: pixel statistics beside those of renders."""

import random
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from backend_gpu.glide.config import Pixels
from backend_gpu.mini.vocabulary import Vocabulary
from backend_gpu.training.scenes import (
    PIXEL_ART_CELLS,
    SINGLE_SIZE,
    Float,
    Scene,
    draw_place,
    draw_plain,
    render,
    resized_glyph,
)

CORNER = 5  # side of the squares in the corners that show the background, in pixels of 64
BORDER = 10  # width of the frame that shows the place
GROUND_RENDERS = 8  # of each ground, for its mean picture
STYLE_SCALES = np.array([20.0, 0.7, 30.0], np.float32)  # how far the styles lie apart in each of style_features


def background_colour(picture: Pixels) -> Float:
    """Median RGB of the four corners."""
    near, far = slice(None, CORNER), slice(-CORNER, None)
    corners = [picture[rows, columns].reshape(-1, 3) for rows in (near, far) for columns in (near, far)]
    return np.asarray(np.median(np.concatenate(corners), axis=0), np.float32)


def nearest(value: Float, candidates: Mapping[str, Float]) -> str:
    """The name of the candidate with the smallest mean absolute difference."""
    return min(candidates, key=lambda name: float(np.abs(value - candidates[name]).mean()))


def frame(picture: Pixels | Float) -> Float:
    """The picture's pixels around the object, (N, 3)."""
    is_frame = np.ones(picture.shape[:2], np.bool_)
    is_frame[BORDER:-BORDER, BORDER:-BORDER] = False
    return np.asarray(picture[is_frame], np.float32)


def mean_frame(pictures: list[Pixels]) -> Float:
    """The frame of the pictures' mean."""
    return frame(np.stack(pictures).mean(0, dtype=np.float32))


def ground_frames(vocabulary: Vocabulary, side: int) -> dict[str, Float]:
    """The mean frame of each place and, as what a place may be taken for, of each background colour."""
    rng = random.Random(0)
    frames: dict[str, Float] = {}
    for place in vocabulary.scenes:
        frames[place] = mean_frame([draw_place(place, side, rng) for _ in range(GROUND_RENDERS)])
    for colour in ("", *vocabulary.colours):
        frames[colour] = mean_frame([draw_plain(colour, vocabulary, side, rng) for _ in range(GROUND_RENDERS)])
    return frames


def tint_of(picture: Pixels, scene: Scene, vocabulary: Vocabulary) -> str:
    """The colour whose render of this scene has the nearest mean inside the object; "" for the untouched glyph."""
    side = len(picture)
    inside = object_mask(scene, side)
    candidates = {
        tint: render(replace(scene, tint=tint), vocabulary, side, random.Random(0))[inside].mean(0, np.float32)
        for tint in ("", *vocabulary.colours)
        if tint != scene.objects[0].colour  # which would be the untouched glyph's, roughly
    }
    return nearest(picture[inside].mean(0, np.float32), candidates)


def number_of(picture: Pixels, scene: Scene, vocabulary: Vocabulary) -> str:
    """The word for the number of objects, one to four, whose render of this scene has the nearest pixels."""
    candidates = {
        word: np.asarray(
            render(replace(scene, objects=scene.objects[:1] * number), vocabulary, len(picture), random.Random(0)),
            np.float32,
        )
        for number, word in ({1: "one"} | scene.counts).items()
    }
    return nearest(np.asarray(picture, np.float32), candidates)


def object_mask(scene: Scene, side: int) -> NDArray[np.bool_]:
    """Where a single object is opaque, (side, side)."""
    glyph_side = round(side * SINGLE_SIZE)
    canvas = Image.new("L", (side, side))
    alpha = resized_glyph(scene.objects[0], None, glyph_side).getchannel("A")
    canvas.paste(alpha, ((side - glyph_side) // 2, (side - glyph_side) // 2))
    return np.asarray(canvas) > 160


def style_of(picture: Pixels, scene: Scene, vocabulary: Vocabulary) -> str:
    """The style ("" for none) whose render of this scene has the nearest features."""
    candidates = {
        style: style_features(render(replace(scene, style=style), vocabulary, len(picture), random.Random(0)))
        for style in ("", *vocabulary.styles)
    }
    return nearest(style_features(picture), candidates)


def style_features(picture: Pixels) -> Float:
    """What tells the styles apart: colourfulness, cells of pixel art, darkest pixels (3,)."""
    pixels = picture.astype(np.float32)
    colourfulness = (pixels.max(-1) - pixels.min(-1)).mean()
    cell = len(picture) // PIXEL_ART_CELLS
    within = across = 3.0  # differences of neighbours in one cell, and of neighbours in two
    for grey in (pixels.mean(-1), pixels.mean(-1).T):
        steps = np.abs(np.diff(grey, axis=0)).mean(1)
        is_edge = np.arange(1, len(grey)) % cell == 0
        within += float(steps[~is_edge].mean())
        across += float(steps[is_edge].mean())
    darkest = np.percentile(pixels.mean(-1), 2)
    return np.asarray([colourfulness, np.log(within / across), darkest], np.float32) / STYLE_SCALES
