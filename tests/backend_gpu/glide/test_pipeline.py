from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
import torch

from backend_gpu.glide.config import PredictionType, SamplerName, TextConfig, UNetConfig
from backend_gpu.glide.pipeline import (
    Known,
    Picture,
    Pipeline,
    Sampling,
    StepEstimate,
    as_eps,
    to_signed,
    to_uint8,
)
from backend_gpu.glide.schedule import alpha_bar_at, alpha_bars
from backend_gpu.glide.tokenizer import WordTokenizer
from backend_gpu.glide.unet import UNet

WORDS = ["red", "apple", "blue", "dog"]
TEXT = TextConfig(vocab_size=len(WORDS) + 2, context=4, width=32, layers=1, heads=1)
BASE = UNetConfig(
    num_channels=32,
    channel_mult=(1, 1),
    num_res_blocks=1,
    attention_resolutions=(16,),
    head_channels=32,
    text=TEXT,
    patch_size=4,
)
UPSAMPLER = replace(BASE, image_size=256, in_channels=6, patch_size=16, noise_schedule="linear")
QUICK = Sampling(steps=3, upsample_steps=2)
SAMPLERS = get_args(SamplerName)


def random_unet(config: UNetConfig, seed: int) -> UNet:
    """A network whose every parameter is random, so that every branch reaches the output."""
    torch.manual_seed(seed)
    unet = UNet(config)
    for parameter in unet.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return unet.eval()


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline(random_unet(BASE, 1), random_unet(UPSAMPLER, 2), WordTokenizer(WORDS, TEXT.context))


@pytest.fixture(scope="module")
def inpainting() -> Pipeline:
    base, upsampler = replace(BASE, in_channels=7), replace(UPSAMPLER, in_channels=10)
    return Pipeline(random_unet(base, 3), random_unet(upsampler, 4), WordTokenizer(WORDS, TEXT.context))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_picture_does_not_depend_on_its_batch(pipeline: Pipeline, sampler: SamplerName) -> None:
    sampling = replace(QUICK, sampler=sampler)
    pictures = [
        Picture(prompt="red apple", seed=7),
        Picture(prompt="blue dog", seed=2**32 - 1, guidance_scale=5.0, negative_prompt="red"),
        Picture(prompt="", seed=7, guidance_scale=1.0),
    ]
    together = pipeline.draw(pictures, sampling)
    for picture, in_batch in zip(pictures, together, strict=True):
        alone = pipeline.draw([picture], sampling)[0]
        assert np.abs(alone.astype(int) - in_batch).max() <= 1  # one step of 8 bits: rounding


@pytest.mark.parametrize(
    "changed", [{"prompt": "dog"}, {"seed": 8}, {"guidance_scale": 6.0}, {"negative_prompt": "dog"}]
)
def test_every_part_of_a_request_changes_the_picture(pipeline: Pipeline, changed: dict[str, Any]) -> None:
    picture = Picture(prompt="red apple", seed=7)
    before, after = pipeline.draw([picture, replace(picture, **changed)], replace(QUICK, upscale=False))
    assert np.abs(before.astype(int) - after).max() > 1


def test_pictures_are_256_pixels_wide_and_64_without_upscaling(pipeline: Pipeline) -> None:
    picture = Picture(prompt="dog", seed=1)
    assert pipeline.draw([picture], QUICK).shape == (1, 256, 256, 3)
    assert pipeline.draw([picture], replace(QUICK, upscale=False)).shape == (1, 64, 64, 3)


def test_a_small_picture_is_enlarged_as_in_one_run(pipeline: Pipeline) -> None:
    pictures = [Picture(prompt="dog", seed=1), Picture(prompt="cat", seed=2)]
    small = pipeline.draw(pictures, replace(QUICK, upscale=False))
    assert (pipeline.enlarge(pictures, small, QUICK) == pipeline.draw(pictures, QUICK)).all()


def test_progress_is_told_after_every_step_with_the_current_estimate(pipeline: Pipeline) -> None:
    *seen, pictures = pipeline.generate([Picture(prompt="dog", seed=1)], QUICK)
    assert isinstance(pictures, np.ndarray)
    steps = [item for item in seen if isinstance(item, StepEstimate)]
    assert [(p.stage, p.step, p.total_steps) for p in steps] == [
        *[("base", step, 3) for step in (1, 2, 3)],
        *[("upsample", step, 2) for step in (1, 2)],
    ]
    assert len(steps) == len(seen)
    assert steps[0].x_start.shape == (1, 3, 64, 64)
    assert steps[-1].x_start.shape == (1, 3, 256, 256)
    assert max(float(p.x_start.abs().max()) for p in steps) <= 1
    assert np.array_equal(pictures, to_uint8(steps[-1].x_start))


def test_closing_the_run_calls_no_network_any_more(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = 0
    forward = pipeline.base.forward

    def counted(x: torch.Tensor, *others: Any) -> torch.Tensor:
        nonlocal rows
        rows += len(x)
        return forward(x, *others)

    monkeypatch.setattr(pipeline.base, "forward", counted)
    run = pipeline.generate([Picture(prompt="dog", seed=1)], QUICK)
    next(run)
    run.close()
    assert rows == 2  # of one step, guided
    assert list(run) == []


@pytest.mark.parametrize("has_gradients", [True, False])
@pytest.mark.parametrize("steps", [1, 4, 6])  # of the base model, of the upsampler, and after the pictures
def test_a_suspended_run_leaves_its_callers_gradients_alone(
    pipeline: Pipeline, has_gradients: bool, steps: int
) -> None:
    with torch.set_grad_enabled(has_gradients):
        run = pipeline.generate([Picture(prompt="dog", seed=1)], QUICK)
        for _ in range(steps):
            item = next(run)
            assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == (has_gradients, False)
            if isinstance(item, StepEstimate):
                assert not item.x_start.requires_grad  # though the networks' parameters do
        run.close()
        assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == (has_gradients, False)


def test_the_text_is_read_once_per_different_prompt(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    encode_text = pipeline.base.encode_text

    def counted(tokens: torch.Tensor, mask: torch.Tensor) -> object:
        rows.append(len(tokens))
        return encode_text(tokens, mask)

    monkeypatch.setattr(pipeline.base, "encode_text", counted)
    pictures = [Picture(prompt="red apple", seed=seed) for seed in range(4)]
    pipeline.draw(pictures, replace(QUICK, upscale=False))
    assert rows == [2]  # the prompt and the empty one, for three steps of four pictures


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_inpainting_keeps_the_known_pixels_and_draws_the_others(inpainting: Pipeline, sampler: SamplerName) -> None:
    painted = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8).repeat(16, 0).repeat(16, 1)
    mask = np.ones((256, 256), bool)
    mask[64:192, 64:192] = False
    known = Known(picture=painted, mask=mask)
    result = inpainting.draw([Picture(prompt="dog", seed=1, known=known)], replace(QUICK, sampler=sampler))[0]
    assert np.array_equal(result[mask], painted[mask])
    assert np.abs(result[~mask].astype(int) - painted[~mask]).mean() > 5


def test_a_half_known_block_is_drawn_anew_by_the_base_model(inpainting: Pipeline) -> None:
    mask = np.zeros((256, 256), bool)
    mask[:, :130] = True  # the block of columns 128 to 131 is known by half
    known = Known(picture=np.full((256, 256, 3), 200, np.uint8), mask=mask)
    (_, kept), _ = inpainting._known([Picture(prompt="", seed=0, known=known)], 64)
    assert kept[0, 0, :, :32].min() == 1
    assert kept[0, 0, :, 32:].max() == 0


def test_the_inpainting_models_draw_without_a_picture_too(inpainting: Pipeline) -> None:
    pictures = [
        Picture(prompt="dog", seed=1),
        Picture(
            prompt="dog", seed=1, known=Known(picture=np.zeros((256, 256, 3), np.uint8), mask=np.ones((256, 256), bool))
        ),
    ]
    free, black = inpainting.draw(pictures, QUICK)
    assert black.max() == 0
    assert free.std() > 1


def test_known_pixels_are_refused_by_a_model_that_cannot_inpaint(pipeline: Pipeline) -> None:
    known = Known(picture=np.zeros((256, 256, 3), np.uint8), mask=np.ones((256, 256), bool))
    with pytest.raises(ValueError, match="can't inpaint"):
        pipeline.draw([Picture(prompt="dog", seed=1, known=known)], QUICK)


def test_a_base_model_and_an_upsampler_of_different_kinds_are_refused(pipeline: Pipeline, inpainting: Pipeline) -> None:
    with pytest.raises(ValueError, match="not of one kind"):
        Pipeline(pipeline.base, inpainting.upsampler, pipeline.tokenizer)


@pytest.mark.parametrize("t", [0.0, 12.5, 500.0, 999.0])
def test_x_start_means_the_same_noise_as_eps(t: float) -> None:
    alpha_bar = alpha_bar_at(alpha_bars("squared_cosine"), t)
    generator = torch.Generator().manual_seed(0)
    x_start, eps = (torch.randn(1, 3, 8, 8, generator=generator, dtype=torch.float64) for _ in range(2))
    x_t = alpha_bar**0.5 * x_start + (1 - alpha_bar) ** 0.5 * eps
    meant: dict[PredictionType, torch.Tensor] = {"eps": eps, "x_start": x_start}
    for prediction, value in meant.items():
        torch.testing.assert_close(as_eps(value, x_t, alpha_bar, replace(BASE, prediction=prediction)), eps)


def test_eight_bit_pixels_survive_the_way_to_the_network_and_back() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    assert np.array_equal(to_uint8(to_signed(pixels)), pixels)


def test_a_configuration_survives_being_written_down() -> None:
    for config in (BASE, replace(UPSAMPLER, text=None)):
        assert UNetConfig.from_json(config.to_json()) == config
