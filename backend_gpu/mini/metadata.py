"""What the mini model says of itself, readable without torch: its words, its concepts, and how it draws best."""

import hashlib
import json
from pathlib import Path

from backend_gpu.errors import CheckpointError
from backend_gpu.glide.metadata import read_metadata

WEIGHTS = Path(__file__).parent / "weights"
EXPERIMENTAL = "experimental.json"  # beside the weights, written by `evaluate --card`
SPRITES, SPRITE_INDEX = "sprites.webp", "sprites.json"  # beside the weights, written by `sheet --sprites`
STEPS, UPSAMPLE_STEPS, GUIDANCE_SCALE = 10, 2, 2.5  # what docs/samplers.md found best


def known_words(folder: Path = WEIGHTS) -> list[str]:
    """The words of its captions; any other is noise to it.

    Raises:
        CheckpointError: its weights are missing or broken.
    """
    return list(json.loads(mini_metadata(folder / "base.safetensors")["words"]))


def trained_concepts(folder: Path = WEIGHTS) -> list[str]:
    """English names of the concepts that the model claims to draw (its card says how well).

    Raises:
        CheckpointError: its weights are missing or broken.
    """
    return list(json.loads(mini_metadata(folder / "base.safetensors")["concepts"]))


def experimental_phrases(folder: Path = WEIGHTS) -> list[str]:
    """Phrases of the grammar that the model knows and its evaluation found wanting; none before any evaluation."""
    path = folder / EXPERIMENTAL
    return list(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else []


def weights_hash(folder: Path = WEIGHTS) -> str:
    """SHA-256 of both its files, one after the other."""
    both = b"".join((folder / f"{name}.safetensors").read_bytes() for name in ("base", "upsampler"))
    return hashlib.sha256(both).hexdigest()


def mini_metadata(path: Path) -> dict[str, str]:
    """What one of its files says: its config, words and concepts, as JSON, and how it was trained.

    Raises:
        CheckpointError: the file is missing, broken or of another program.
    """
    metadata = read_metadata(path)
    if missing := {"config", "words", "concepts"} - metadata.keys():
        raise CheckpointError(f"{path} is not a mini model's file: it lacks its {', '.join(sorted(missing))}")
    return metadata
