"""OpenAI's GLIDE with its published checkpoints: any English, but no people."""

from dataclasses import replace
from importlib.metadata import version

from backend_gpu.engine import Engine, EngineInfo, Guidance, ModelWarning, Stage, Text
from backend_gpu.settings import Settings

PEOPLE = (
    *("person", "people", "man", "men", "woman", "women"),
    *("boy", "boys", "girl", "girls", "child", "children", "face"),
)


def describe(settings: Settings) -> EngineInfo:
    """What it is, before it is loaded."""
    del settings
    return EngineInfo(
        model="glide",
        stages=(
            Stage(name="base", label=Text("下描き", "sketch"), side=64, steps=20, is_guided=True),
            Stage(name="upsample", label=Text("仕上げ", "finish"), side=256, steps=10),
        ),
        samplers=("dpmpp_2m", "ddim", "ddpm"),
        qualities={
            "fast": {"base": 12, "upsample": 6},
            "standard": {"base": 20, "upsample": 10},
            "high": {"base": 60, "upsample": 27},
        },
        guidance=Guidance(default=3.0),
        has_negative_prompt=True,
        license="MIT",
        warnings=(
            ModelWarning(
                words=PEOPLE,
                text=Text(
                    ja="GLIDE の公開モデルは人を描けないように訓練されています。人の部分はうまく描けません。",
                    en="GLIDE's public model was trained not to draw people. They will not come out well.",
                ),
            ),
        ),
        examples=(
            Text("コーギーの油絵", "an oil painting of a corgi"),
            Text("夕焼けの海と一隻の小さな船", "a small boat on the sea at sunset"),
            Text("雪に覆われた山の湖", "a lake among snowy mountains"),
            Text("木のテーブルの上の青い花瓶", "a blue vase on a wooden table"),
            Text("未来都市の夜景、水彩画", "a futuristic city at night, watercolor"),
            Text("秋の森の中の小道", "a path through an autumn forest"),
        ),
        versions={"torch": version("torch")},
    )


def open_engine(settings: Settings) -> Engine:
    """Load it, downloading its checkpoints at the first use.

    Raises:
        CheckpointError: they could not be fetched, stored or read; the message says what to do.
        BackendError: the device is not there.
    """
    # Here and not above: a model is described without torch
    from backend_gpu.engine.pipeline import PipelineEngine, choose_device, on_device
    from backend_gpu.engine.published import open_published, published_hash
    from backend_gpu.glide.acceleration import best_dtype
    from backend_gpu.glide.pipeline import Pipeline
    from backend_gpu.glide.tokenizer import BytePairTokenizer

    device, folder = choose_device(settings.device), settings.checkpoints
    dtype = best_dtype(device)
    base, upsampler = (open_published(kind, folder, dtype) for kind in ("base", "upsample"))
    pipeline = on_device(Pipeline(base, upsampler, BytePairTokenizer()), device)
    info = replace(describe(settings), device=str(device), model_hash=published_hash(folder, dtype))
    return PipelineEngine(pipeline, info)
