"""Glyphs in another colour: each of the grammar's colours has the shades that a painter would mix for it."""

import numpy as np
from PIL import Image

RGB = tuple[int, int, int]
Shades = tuple[RGB, RGB, RGB, RGB]

# Ink for eyes and outlines, shadow, the colour of the thing's body, light. Shadows turn to the neighbour that is darker
# by itself (yellow to ochre, light blue to blue): the same hue with less light would be khaki and mud.
SHADES: dict[str, Shades] = {
    "red": ((58, 6, 20), (160, 16, 40), (226, 38, 45), (255, 176, 160)),
    "blue": ((10, 16, 62), (24, 52, 150), (45, 95, 225), (178, 208, 255)),
    "green": ((8, 44, 32), (20, 108, 62), (50, 168, 70), (190, 236, 160)),
    "yellow": ((84, 48, 8), (240, 162, 22), (254, 216, 48), (255, 248, 190)),
    "orange": ((82, 30, 6), (204, 84, 16), (248, 140, 30), (255, 220, 160)),
    "purple": ((36, 10, 66), (88, 36, 140), (142, 72, 194), (222, 190, 250)),
    "pink": ((92, 22, 58), (220, 92, 150), (248, 152, 192), (255, 226, 236)),
    "black": ((0, 0, 0), (18, 18, 22), (44, 44, 50), (158, 162, 176)),
    "white": ((58, 64, 80), (160, 174, 202), (251, 252, 255), (255, 255, 255)),
    "gray": ((34, 34, 40), (92, 93, 102), (144, 145, 151), (222, 224, 230)),
    "brown": ((38, 18, 8), (88, 50, 28), (136, 88, 52), (220, 182, 140)),
    "light blue": ((18, 54, 88), (72, 152, 212), (132, 206, 242), (226, 246, 255)),
}
DARKNESS = (0.3, 0.66, 1.0)  # of ink, shadow and body, as shares of the body's lightness
LEAST_SPAN = 30.0  # from the body to the lightest part of a glyph, of 255: flat glyphs stay flat


def tinted(image: Image.Image, shades: Shades) -> Image.Image:
    """Redraw a glyph (RGBA) in shades of one colour, keeping its inner drawing."""
    pixels = np.asarray(image).astype(np.float32)
    luminance = pixels[..., :3] @ np.array([0.299, 0.587, 0.114], np.float32)
    lightness = (luminance + pixels[..., :3].max(-1)) / 2  # by luminance alone, a red body is as dark as its tyres
    opaque = lightness[pixels[..., 3] > 128]
    # Where two tones share a thing, the lighter is its body: of a vase with a dark pattern, of dark folds in a rose
    body, lightest = np.percentile(opaque, (65, 98))
    stops = [*(share * body for share in DARKNESS), max(lightest, body + LEAST_SPAN)]
    for channel in range(3):
        pixels[..., channel] = np.interp(lightness, stops, [shade[channel] for shade in shades])
    return Image.fromarray(pixels.round().astype(np.uint8))
