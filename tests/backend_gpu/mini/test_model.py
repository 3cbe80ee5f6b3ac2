import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from backend_gpu.engine.mini import open_engine
from backend_gpu.errors import CheckpointError
from backend_gpu.glide.checkpoint import write_weights
from backend_gpu.glide.config import TextConfig, UNetConfig
from backend_gpu.glide.pipeline import Picture, Sampling
from backend_gpu.glide.unet import UNet
from backend_gpu.mini.metadata import trained_concepts
from backend_gpu.mini.model import open_mini
from backend_gpu.settings import Settings
from backend_gpu.training.plan import BASE_PLAN
from backend_gpu.training.train import Training, export

WORDS = ["a", "red", "apple", "dog"]
TEXT = TextConfig(vocab_size=len(WORDS) + 2, context=4, width=32, layers=1, heads=1)
BASE = UNetConfig(
    num_channels=32,
    channel_mult=(1, 1),
    num_res_blocks=1,
    attention_resolutions=(4,),
    head_channels=32,
    text=TEXT,
    patch_size=8,
    prediction="x_start",
)
RECORDED = Path(__file__).parents[2] / "data" / "mini_forward.safetensors"
UPSAMPLER = replace(BASE, image_size=256, in_channels=6, patch_size=16, text=None, noise_schedule="linear")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Training]:
    """Untrained networks, saved and exported as training does it; the weights lie beside the checkpoints."""
    folder = tmp_path_factory.mktemp("mini")
    made = {}
    for name, config in (("base", BASE), ("upsampler", UPSAMPLER)):
        torch.manual_seed(0)
        network = UNet(config)
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.3)  # so that every branch reaches the output
        made[name] = Training(network, BASE_PLAN, folder / f"{name}.pt", WORDS)
        made[name].save()
        export(folder / f"{name}.pt", folder / f"{name}.safetensors", ["apple", "dog"])
    return made


@pytest.fixture
def weights(exported: dict[str, Training], tmp_path: Path) -> Path:
    """A folder of the exported weights that a test may spoil."""
    for training in exported.values():
        shutil.copy(training.checkpoint.with_suffix(".safetensors"), tmp_path)
    return tmp_path


def test_the_opened_networks_have_the_exported_weights_in_half_precision(
    exported: dict[str, Training], weights: Path
) -> None:
    pipeline = open_mini(weights)
    for network, training in ((pipeline.base, exported["base"]), (pipeline.upsampler, exported["upsampler"])):
        assert network.config == training.network.config
        for name, tensor in network.state_dict().items():
            assert tensor.dtype == torch.float32
            assert torch.equal(tensor, training.average.state_dict()[name].half().float()), name


def wave(*shape: int) -> torch.Tensor:
    """An input for a network, the same on every machine."""
    values = torch.arange(torch.Size(shape).numel(), dtype=torch.float64).mul(0.7).sin()
    return values.float().reshape(shape)


def test_the_embedded_networks_compute_what_was_recorded_of_them() -> None:
    pipeline = open_mini()
    captions = ("a red apple on a blue background", "")
    tokens, masks = map(torch.tensor, zip(*map(pipeline.tokenizer.encode, captions), strict=True))
    base, upsampler = pipeline.base, pipeline.upsampler
    times = torch.tensor([12.5, 700.0])
    with torch.inference_mode():
        small = base(wave(2, 3, 64, 64), times, base.encode_text(tokens, masks))
        large = upsampler(wave(2, 6, 256, 256), times, upsampler.encode_text(tokens, masks))
    computed = {"base": small[..., ::9, ::9], "upsampler": large[..., ::17, ::17]}
    recorded = load_file(RECORDED)
    assert computed.keys() == recorded.keys()
    for name, expected in recorded.items():
        assert (computed[name] - expected).norm() <= 1e-5 * expected.norm(), name  # rounding


def test_the_opened_model_draws_what_its_words_say(weights: Path) -> None:
    pipeline = open_mini(weights)
    pictures = [Picture(prompt=prompt, seed=1, guidance_scale=9) for prompt in ("a red apple", "a dog", "a dog")]
    sampling = Sampling(steps=2, upsample_steps=2)
    assert pipeline.draw(pictures[:1], sampling).shape == (1, 256, 256, 3)
    red_apple, dog, same_dog = pipeline.draw(pictures, replace(sampling, upscale=False)).astype(int)
    assert np.abs(red_apple - dog).max() > 1
    assert np.abs(same_dog - dog).max() <= 1  # rounding
    assert pipeline.tokenizer.context == TEXT.context


def test_the_model_tells_the_concepts_that_it_was_trained_on(weights: Path) -> None:
    assert trained_concepts(weights) == ["apple", "dog"]


@pytest.mark.parametrize("name", ["base.safetensors", "upsampler.safetensors"])
def test_missing_weights_are_an_error_that_names_the_file(name: str, weights: Path) -> None:
    (weights / name).unlink()
    with pytest.raises(CheckpointError, match=f"can't read the weights in .*{name}"):
        open_mini(weights)


@pytest.mark.parametrize("content", [b"", b"version https://git-lfs.github.com/spec/v1\n"])
def test_a_broken_file_is_an_error_that_names_it(content: bytes, weights: Path) -> None:
    (weights / "upsampler.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"can't read the weights in .*upsampler\.safetensors"):
        open_mini(weights)


def test_weights_of_another_program_are_an_error_that_tells_what_they_lack(weights: Path) -> None:
    write_weights(weights / "base.safetensors", {"layer": torch.zeros(2)}, {"words": "[]"})
    with pytest.raises(CheckpointError, match=r"not a mini model's file: it lacks its concepts, config$"):
        open_mini(weights)
    with pytest.raises(CheckpointError, match="not a mini model's file"):
        trained_concepts(weights)


def test_weights_that_do_not_fit_their_own_config_are_refused(weights: Path) -> None:
    metadata = {"config": BASE.to_json(), "words": "[]", "concepts": "[]"}
    write_weights(weights / "base.safetensors", {"layer": torch.zeros(2)}, metadata)
    with pytest.raises(CheckpointError, match="does not fit the model"):
        open_mini(weights)


def test_an_upsampler_in_the_base_models_place_is_refused(weights: Path) -> None:
    shutil.copy(weights / "upsampler.safetensors", weights / "base.safetensors")
    with pytest.raises(CheckpointError, match=r"base\.safetensors is no base model"):
        open_mini(weights)


def test_the_service_draws_with_a_mini_model_of_ones_own(weights: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(weights, model / "weights", ignore=shutil.ignore_patterns("model"))
    rows = [
        "glyph english plural colour tint japanese",
        *(f"x.png {name} {name}s   " for name in ("apple", "dog", "cat")),
    ]
    (model / "concepts.tsv").write_text("\n".join(rows).replace(" ", "\t"), encoding="utf-8")
    (model / "weights" / "experimental.json").write_text('["in the rain"]', encoding="utf-8")
    own, embedded = (open_engine(Settings(device="cpu", mini_dir=folder)).info for folder in (model, None))
    assert own.vocabulary
    assert embedded.vocabulary
    assert own.vocabulary.words == tuple(WORDS)
    assert set(own.vocabulary.words) < set(embedded.vocabulary.words)
    assert own.model_hash != embedded.model_hash
    assert own.vocabulary.untrained == ("cat",)
    assert own.vocabulary.experimental == ("in the rain",)
