import json

import pytest

from backend_gpu.glide.config import UNetConfig
from backend_gpu.glide.unet import UNet
from backend_gpu.mini.metadata import WEIGHTS, mini_metadata
from backend_gpu.training.plan import (
    BASE_PLAN,
    UPSAMPLER_PLAN,
    base_config,
    concepts_at,
    ema_decay_at,
    mix_at,
    upsampler_config,
)


def test_the_networks_that_are_trained_have_the_shapes_of_the_shipped_ones() -> None:
    base, upsampler = (mini_metadata(WEIGHTS / f"{name}.safetensors") for name in ("base", "upsampler"))
    words = len(json.loads(base["words"]))
    assert UNetConfig.from_json(base["config"]) == base_config(words)
    assert UNetConfig.from_json(upsampler["config"]) == upsampler_config(words)


def test_the_networks_that_are_trained_fit_together_and_stay_small() -> None:
    base, upsampler = base_config(1314), upsampler_config(1314)
    assert base.in_channels + 3 == upsampler.in_channels
    assert (base.image_size, upsampler.image_size) == (BASE_PLAN.side, UPSAMPLER_PLAN.side) == (64, 256)
    parameters = sum(parameter.numel() for config in (base, upsampler) for parameter in UNet(config).parameters())
    assert parameters < 18.5e6  # 37 MB in half precision


def test_a_cpu_gets_smaller_batches() -> None:
    for plan in (BASE_PLAN, UPSAMPLER_PLAN):
        assert plan.batch_size_on("cpu") < plan.batch_size_on("cuda")


@pytest.mark.parametrize(
    ("done", "steps", "share"),
    [(0, 0, 1 / 200), (0, 99, 0.5), (0, 199, 1), (0.5, 5000, 1), (0.75, 5000, 0.5), (1, 5000, 0.01), (0.75, 99, 0.25)],
)
def test_the_learning_rate_rises_stays_and_falls(done: float, steps: int, share: float) -> None:
    assert BASE_PLAN.rate_at(done, steps) == pytest.approx(share)


def test_the_first_half_of_the_time_has_the_noisier_pictures() -> None:
    assert [BASE_PLAN.bias_at(done) for done in (0, 0.49, 0.5, 1)] == [0.6, 0.6, 0.75, 0.75]


@pytest.mark.parametrize(
    ("done", "steps", "decay"), [(0, 1, 1 / 11), (0, 10, 0.5), (0.5, 50_000, 0.999), (0.9, 50_000, 0.9985)]
)
def test_the_average_is_long_but_not_at_the_beginning(done: float, steps: int, decay: float) -> None:
    assert ema_decay_at(done, steps) == pytest.approx(decay)


@pytest.mark.parametrize(
    ("done", "concepts", "drawn"),
    [(0, 100, 64), (0.04, 100, 82), (0.08, 100, 100), (1, 100, 100), (0, 6, 6), (0.04, 6, 6), (1, 6, 6)],
)
def test_all_concepts_are_drawn_after_a_twelfth_of_the_run(done: float, concepts: int, drawn: int) -> None:
    assert concepts_at(done, concepts) == drawn


def test_pairs_come_later_than_single_things() -> None:
    assert [mix_at(done).pair for done in (0, 0.11, 0.12, 0.39, 0.4, 1)] == [0, 0, 0.22, 0.22, 0.32, 0.32]
    for done in (0, 0.2, 0.5):
        mix = mix_at(done)
        assert mix.one + mix.tinted + mix.count + mix.pair == pytest.approx(1)
