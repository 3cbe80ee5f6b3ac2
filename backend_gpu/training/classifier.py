"""The evaluation's instrument for objects: a small network that names what a crop shows, trained on renders only."""

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageFilter
from torch import Tensor, nn
from tqdm import trange

from backend_gpu.files import atomically
from backend_gpu.glide.config import Pixels
from backend_gpu.glide.pipeline import to_signed
from backend_gpu.mini.vocabulary import Vocabulary
from backend_gpu.training.scenes import (
    PART_SIZE,
    SINGLE_SIZE,
    Mix,
    Scene,
    draw_place,
    draw_plain,
    random_scene,
    render,
)

NOTHING = ""  # the name of a crop without an object
CROP_SIDE = 32  # pixels
CROP_MARGIN = 1.16  # of the crop's side to the glyph's nominal side
PICTURE_SIDE = 64  # pixels, as the base model draws them
MIX = Mix(one=0.45, tinted=0.10, count=0.15, pair=0.30)
NOTHING_SHARE = 0.08  # of pictures without any object
CLEAN_CROPS = 2000  # to measure the classifier itself on


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How the classifier is trained."""

    steps: int = 900
    batch_size: int = 128
    learning_rate: float = 3e-3
    seed: int = 5


class CropClassifier(nn.Module):
    """Names the object in a crop: one of the concepts or nothing."""

    def __init__(self, concepts: Sequence[str]) -> None:
        super().__init__()
        self.names = [*concepts, NOTHING]
        widths = (3, 32, 64, 128, 192)
        blocks = [conv_block(before, after) for before, after in itertools.pairwise(widths)]
        self.layers = nn.Sequential(*blocks, nn.Flatten(), nn.Dropout(0.2), nn.Linear(192 * 4, len(self.names)))

    def forward(self, crops: Tensor) -> Tensor:
        """Logits (N, concepts + 1) of crops (N, 3, 32, 32) in [-1, 1]."""
        return self.layers(crops)

    @torch.inference_mode()
    def best_names(self, crops: Sequence[Pixels]) -> list[list[str]]:
        """The five likeliest names of each crop, the likeliest first."""
        best = self(to_signed(np.stack(crops))).topk(min(5, len(self.names))).indices.tolist()
        return [[self.names[index] for index in row] for row in best]


def conv_block(in_channels: int, out_channels: int) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), nn.ReLU(), nn.MaxPool2d(2))


def object_crops(picture: Pixels, scene: Scene) -> list[Pixels]:
    """A crop (32, 32, 3) around each place where the scene has an object."""
    size = SINGLE_SIZE if len(scene.objects) == 1 else PART_SIZE
    image = Image.fromarray(picture)
    return [np.asarray(crop(image, x, y, size)) for x, y in scene.positions()]


def crop(image: Image.Image, x: float, y: float, size: float) -> Image.Image:
    """Cut out the square around (x, y) that a glyph of that size needs; all are shares of the picture's side."""
    half = size * CROP_MARGIN / 2
    left, top, right, bottom = (
        min(max(0.0, edge), 1.0) * image.width for edge in (x - half, y - half, x + half, y + half)
    )
    return image.resize((CROP_SIDE, CROP_SIDE), Image.Resampling.BILINEAR, (left, top, right, bottom))


def clean_crops(vocabulary: Vocabulary, number: int, rng: random.Random) -> tuple[list[Pixels], list[str]]:
    """Crops of renders without a style, as the evaluation cuts them, and their names."""
    crops: list[Pixels] = []
    names: list[str] = []
    while len(crops) < number:
        scene = random_scene(vocabulary, MIX, rng)
        if not scene.style:
            crops += object_crops(render(scene, vocabulary, PICTURE_SIDE, rng), scene)
            names += [concept.english for concept in scene.objects]
    return crops[:number], names[:number]


def training_crops(vocabulary: Vocabulary, number: int, rng: random.Random) -> tuple[Tensor, list[str]]:
    """Crops (N, 3, 32, 32) in [-1, 1] of renders in all styles, slightly shifted, blurred and noised; their names."""
    crops: list[Pixels] = []
    names: list[str] = []
    while len(crops) < number:
        if rng.random() < NOTHING_SHARE:
            x, y, size = rng.uniform(0.3, 0.7), rng.uniform(0.3, 0.7), rng.uniform(0.4, 0.7)
            crops.append(np.asarray(crop(empty_picture(vocabulary, rng), x, y, size)))
            names.append(NOTHING)
            continue
        scene = random_scene(vocabulary, MIX, rng)
        image = Image.fromarray(render(scene, vocabulary, PICTURE_SIDE, rng))
        size = SINGLE_SIZE if len(scene.objects) == 1 else PART_SIZE
        for concept, (x, y) in zip(scene.objects, scene.positions(), strict=True):
            shifted_x, shifted_y = x + rng.uniform(-0.04, 0.04), y + rng.uniform(-0.04, 0.04)
            part = crop(image, shifted_x, shifted_y, size * rng.uniform(0.9, 1.15))
            if rng.random() < 0.5:
                part = part.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.2)))
            crops.append(np.asarray(part))
            names.append(concept.english)
    noise = np.random.default_rng(rng.getrandbits(32)).standard_normal((number, 3, CROP_SIDE, CROP_SIDE), np.float32)
    noise *= np.random.default_rng(rng.getrandbits(32)).random((number, 1, 1, 1), np.float32) * 0.12
    return to_signed(np.stack(crops[:number])) + torch.from_numpy(noise), names[:number]


def empty_picture(vocabulary: Vocabulary, rng: random.Random) -> Image.Image:
    """A background or a place with nothing on it."""
    if rng.random() < 0.5:
        return Image.fromarray(draw_place(rng.choice(vocabulary.scenes), PICTURE_SIDE, rng))
    return Image.fromarray(draw_plain(rng.choice(("", *vocabulary.colours)), vocabulary, PICTURE_SIDE, rng))


def train_classifier(vocabulary: Vocabulary, recipe: Recipe) -> CropClassifier:
    """Train on renders alone; never on what a model drew. Shows its progress."""
    rng = random.Random(recipe.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        classifier = CropClassifier([concept.english for concept in vocabulary.concepts])
        index_of = {name: index for index, name in enumerate(classifier.names)}
        optimizer = torch.optim.AdamW(classifier.parameters(), recipe.learning_rate, weight_decay=0.02)
        peak = recipe.learning_rate
        for step in trange(recipe.steps, desc="classifier", unit="step"):
            for group in optimizer.param_groups:
                group["lr"] = peak * min(1.0, (step + 1) / 50) * (1 - step / recipe.steps) + 1e-5
            crops, names = training_crops(vocabulary, recipe.batch_size, rng)
            labels = torch.tensor([index_of[name] for name in names])
            loss = F.cross_entropy(classifier(crops), labels, label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch has no types for it
            optimizer.step()
    return classifier.eval().requires_grad_(False)


def open_classifier(path: Path, vocabulary: Vocabulary, recipe: Recipe) -> CropClassifier:
    """Read the classifier of these concepts and this recipe, or train and keep it."""
    concepts = [concept.english for concept in vocabulary.concepts]
    made_by = [*concepts, repr(recipe)]
    if path.exists() and (saved := torch.load(path, weights_only=True))["made_by"] == made_by:
        classifier = CropClassifier(concepts)
        classifier.load_state_dict(saved["weights"])
        return classifier.eval().requires_grad_(False)
    classifier = train_classifier(vocabulary, recipe)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomically(path, path.with_suffix(".new")) as new:
        torch.save({"weights": classifier.state_dict(), "made_by": made_by}, new)
    return classifier


def clean_accuracy(classifier: CropClassifier, vocabulary: Vocabulary) -> tuple[float, float]:
    """Top-1 and top-5 on clean crops that training has not drawn: what the evaluation can reach at most."""
    crops, names = clean_crops(vocabulary, CLEAN_CROPS, random.Random(99))
    best = classifier.best_names(crops)
    top_1 = np.mean([row[0] == name for row, name in zip(best, names, strict=True)])
    top_5 = np.mean([name in row for row, name in zip(best, names, strict=True)])
    return float(top_1), float(top_5)
