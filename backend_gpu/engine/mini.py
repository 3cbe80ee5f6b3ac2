"""The embedded model, which the project trained: it knows the words of its tables, and draws what they name."""

import json
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from pydantic import TypeAdapter

from backend_gpu.engine import Engine, EngineInfo, Guidance, Sprites, Stage, Text, Vocabulary
from backend_gpu.errors import CheckpointError
from backend_gpu.mini.metadata import (
    GUIDANCE_SCALE,
    SPRITE_INDEX,
    SPRITES,
    STEPS,
    UPSAMPLE_STEPS,
    WEIGHTS,
    experimental_phrases,
    known_words,
    trained_concepts,
    weights_hash,
)
from backend_gpu.mini.vocabulary import CONCEPTS, drawable_things, load_vocabulary
from backend_gpu.mini.words import FUNCTION_WORDS, WORD_PATTERN, PromptWords
from backend_gpu.settings import Settings


def describe(settings: Settings) -> EngineInfo:
    """What it is, before it is loaded: its tables, and what its weights say of themselves.

    Raises:
        CheckpointError: its weights are missing or broken, or its sprites are broken.
        ConceptTableError: its table is missing or broken.
    """
    weights, concepts = weights_of(settings), concepts_of(settings)
    trained = set(trained_concepts(weights))
    names = [concept.english for concept in load_vocabulary(concepts).concepts]
    return EngineInfo(
        model="kotoe-mini",
        stages=(
            Stage(name="base", label=Text("下描き", "sketch"), side=64, steps=STEPS, is_guided=True),
            Stage(name="upsample", label=Text("仕上げ", "finish"), side=256, steps=UPSAMPLE_STEPS),
        ),
        samplers=("dpmpp_2m", "ddim", "ddpm"),
        qualities={  # docs/samplers.md
            "fast": {"base": 6, "upsample": 1},
            "standard": {"base": STEPS, "upsample": UPSAMPLE_STEPS},
            "high": {"base": 12, "upsample": 4},
        },
        guidance=Guidance(default=GUIDANCE_SCALE),
        has_negative_prompt=True,
        license="MIT",
        examples=(
            Text("青い背景に赤いりんご", "a red apple on a blue background"),
            Text("夜の忍者", "a ninja at night"),
            Text("ピンクの背景にいちごのショートケーキ", "a slice of cake on a pink background"),
            Text("雪の中の二羽のペンギン", "two penguins in the snow"),
            Text("女の子と風船", "a girl and a balloon"),
            Text("夕焼けの富士山", "a mountain at sunset"),
        ),
        vocabulary=Vocabulary(
            words=tuple(known_words(weights)),
            word_pattern=WORD_PATTERN,
            function_words=FUNCTION_WORDS,
            experimental=tuple(experimental_phrases(weights)),
            untrained=tuple(name for name in names if name not in trained),
            things={kind: tuple(Text(*names) for names in rows) for kind, rows in drawable_things(concepts).items()},
        ),
        versions={"torch": version("torch")},
        sprites=sprites_of(weights),
    )


def open_engine(settings: Settings) -> Engine:
    """Load it.

    Raises:
        CheckpointError: its weights are missing or broken.
        BackendError: the device is not there.
    """
    # Here and not above: a model is described without torch
    import torch

    from backend_gpu.engine.pipeline import PipelineEngine, choose_device, on_device
    from backend_gpu.glide.acceleration import best_dtype
    from backend_gpu.mini.model import open_mini

    weights, info = weights_of(settings), describe(settings)
    assert info.vocabulary is not None
    words = PromptWords(info.vocabulary.words, load_vocabulary(concepts_of(settings)))
    device = choose_device(settings.device)
    info = replace(info, device=str(device), model_hash=weights_hash(weights))
    # Some 0.7 of the time on a CPU that multiplies bfloat16, the same to the eye; a GPU needs no help with it
    dtype = best_dtype(device) if device.type == "cpu" else torch.float32
    return PipelineEngine(on_device(open_mini(weights, dtype), device), info, words)


def sprites_of(weights: Path) -> Sprites | None:
    """The sheet of small pictures beside the weights; None for a model that has none.

    Raises:
        CheckpointError: the sheet is there without its index or the index without its sheet, or the index is broken.
    """
    sheet, index = weights / SPRITES, weights / SPRITE_INDEX
    if not sheet.exists() and not index.exists():
        return None
    try:
        sheet.stat()
        fields = json.loads(index.read_text(encoding="utf-8"))
        return TypeAdapter(Sprites).validate_python({**fields, "sheet": sheet})
    except (OSError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{SPRITES} and {SPRITE_INDEX} in {weights} do not go together ({error}): draw both anew "
            "(python -m backend_gpu.training sheet --sprites), or delete both"
        ) from error


def weights_of(settings: Settings) -> Path:
    """The folder of its weights: the embedded ones, or those of an own model."""
    return settings.mini_dir / "weights" if settings.mini_dir else WEIGHTS


def concepts_of(settings: Settings) -> Path:
    """The table of what it can draw."""
    return settings.mini_dir / CONCEPTS.name if settings.mini_dir else CONCEPTS
