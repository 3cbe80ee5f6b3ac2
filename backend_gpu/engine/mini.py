"""The embedded model, which the project trained: it knows the words of its tables, and draws what they name."""

from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from backend_gpu.engine import Engine, EngineInfo, Guidance, Stage, Text, Vocabulary
from backend_gpu.mini.metadata import (
    GUIDANCE_SCALE,
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

SPRITES = "sprites.png"  # beside the weights of a model that has one


def describe(settings: Settings) -> EngineInfo:
    """What it is, before it is loaded: its tables, and what its weights say of themselves.

    Raises:
        CheckpointError: its weights are missing or broken.
        ConceptTableError: its table is missing or broken.
    """
    weights, concepts = weights_of(settings), concepts_of(settings)
    trained = set(trained_concepts(weights))
    names = [concept.english for concept in load_vocabulary(concepts).concepts]
    sprites = weights / SPRITES
    return EngineInfo(
        model="kotoe-mini",
        stages=(
            Stage(name="base", label=Text("下描き", "sketch"), side=64, steps=STEPS, is_guided=True),
            Stage(name="upsample", label=Text("仕上げ", "finish"), side=256, steps=UPSAMPLE_STEPS),
        ),
        samplers=("dpmpp_2m", "ddim", "ddpm"),
        qualities={  # docs/samplers.md
            "fast": {"base": 10, "upsample": 3},
            "standard": {"base": STEPS, "upsample": UPSAMPLE_STEPS},
            "high": {"base": 50, "upsample": 8},
        },
        guidance=Guidance(default=GUIDANCE_SCALE),
        has_negative_prompt=True,
        license="MIT",
        examples=(
            Text("青い背景に赤いりんご", "a red apple on a blue background"),
            Text("夜空のロケット", "a rocket at night"),
            Text("草原にいる犬", "a dog on the grass"),
            Text("海の中のタコ", "an octopus under the sea"),
            Text("白い背景のパンダ", "a panda on a white background"),
            Text("雪の中のペンギン", "a penguin in the snow"),
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
        sprites=sprites if sprites.exists() else None,
    )


def open_engine(settings: Settings) -> Engine:
    """Load it.

    Raises:
        CheckpointError: its weights are missing or broken.
        BackendError: the device is not there.
    """
    # Here and not above: a model is described without torch
    from backend_gpu.engine.pipeline import PipelineEngine, choose_device, on_device
    from backend_gpu.mini.model import open_mini

    weights, info = weights_of(settings), describe(settings)
    assert info.vocabulary is not None
    words = PromptWords(info.vocabulary.words, load_vocabulary(concepts_of(settings)))
    device = choose_device(settings.device)
    info = replace(info, device=str(device), model_hash=weights_hash(weights))
    return PipelineEngine(on_device(open_mini(weights), device), info, words)


def weights_of(settings: Settings) -> Path:
    """The folder of its weights: the embedded ones, or those of an own model."""
    return settings.mini_dir / "weights" if settings.mini_dir else WEIGHTS


def concepts_of(settings: Settings) -> Path:
    """The table of what it can draw."""
    return settings.mini_dir / CONCEPTS.name if settings.mini_dir else CONCEPTS
