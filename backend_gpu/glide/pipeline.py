"""From prompts to pictures: text, base model, upsampler; and where gradients are switched off.

Inpainting (`Known`) works with the checkpoints made for it; the service does not offer it yet.
"""

import math
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from backend_gpu.glide.config import Pixels, SamplerName, StageName, UNetConfig
from backend_gpu.glide.guidance import with_guidance
from backend_gpu.glide.samplers import (
    Constrain,
    DenoisingModel,
    Prediction,
    SamplingRun,
    Trajectory,
    clip,
    keeping_known,
    sample_ddim,
    sample_ddpm,
    sample_dpmpp_2m,
)
from backend_gpu.glide.schedule import (
    TIMESTEPS,
    Step,
    alpha_bar_at,
    alpha_bars,
    solver_timesteps,
    space_timesteps,
    steps_at,
)
from backend_gpu.glide.shares import predict_in_shares
from backend_gpu.glide.tokenizer import Tokenizer
from backend_gpu.glide.unet import TextContext, UNet

UPSAMPLER_TEMPERATURE = 0.997  # of the upsampler's first noise, as the published samples were made
FAST27_STEPS = 27  # this many upsampler steps of ddpm or ddim are spaced as GLIDE's fast27


@dataclass(frozen=True, kw_only=True)
class Known:
    """What an inpainted picture keeps."""

    picture: Pixels  # (256, 256, 3) RGB
    mask: NDArray[np.bool_]  # (256, 256), True = keep


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One picture to make; the same in any batch, up to rounding."""

    prompt: str
    seed: int  # 0 to 2^32 - 1
    guidance_scale: float = 3.0
    negative_prompt: str = ""
    known: Known | None = None  # for the inpainting models


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a batch is sampled."""

    sampler: SamplerName = "dpmpp_2m"
    steps: int = 20
    upsample_steps: int = 10
    upscale: bool = True  # to 256x256


@dataclass(frozen=True, kw_only=True)
class StepEstimate:
    """One denoising step was done."""

    stage: StageName
    step: int
    total_steps: int
    x_start: Tensor  # (N, 3, H, W) in [-1, 1], the current estimate


class Pipeline:
    """A base model and its upsampler, on one device."""

    def __init__(self, base: UNet, upsampler: UNet, tokenizer: Tokenizer) -> None:
        if base.config.in_channels + 3 != upsampler.config.in_channels:
            raise ValueError("the base model and the upsampler are not of one kind")
        self.base, self.upsampler, self.tokenizer = base, upsampler, tokenizer
        self.inpaints = base.config.in_channels == 7

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return self.base.out_conv.weight.device

    # On a CPU the mini model takes 7% longer under no_grad, which guidance by gradients would need. Torch's decorator
    # leaves the mode at every yield: while the caller looks at a step, it is in its own.
    @torch.inference_mode()
    def generate(self, pictures: Sequence[Picture], sampling: Sampling) -> Generator[StepEstimate | Pixels, None, None]:
        """Make pictures as one batch; closing the generator ends the run.

        Args:
            pictures: what to make; at least one.
            sampling: the settings that the batch shares.

        Yields: StepEstimate after every denoising step, at last the pictures: (N, 256, 256, 3) RGB, or (N, 64, 64, 3)
            without upscaling.

        Raises: ValueError for step counts that the sampler can't take and for known pixels without an inpainting model.
        """
        if any(picture.known for picture in pictures) and not self.inpaints:
            raise ValueError("this model can't inpaint: known pixels need the inpainting checkpoints")
        samples = yield from self._sample_base(pictures, sampling)
        if sampling.upscale:
            samples = yield from self._sample_upsampler(pictures, samples, sampling)
        yield to_uint8(samples)

    def draw(self, pictures: Sequence[Picture], sampling: Sampling) -> Pixels:
        """The pictures that `generate` makes, for those who don't look at its steps."""
        (pixels,) = deque(self.generate(pictures, sampling), maxlen=1)
        return cast(Pixels, pixels)

    @torch.inference_mode()
    def enlarge(self, pictures: Sequence[Picture], small: Pixels, sampling: Sampling) -> Pixels:
        """The pictures that `draw` makes at 256x256, from those that it makes without upscaling, (N, 64, 64, 3)."""

        def run() -> Generator[StepEstimate | Pixels, None, None]:
            samples = yield from self._sample_upsampler(pictures, to_signed(small).to(self.device), sampling)
            yield to_uint8(samples)

        (pixels,) = deque(run(), maxlen=1)
        return cast(Pixels, pixels)

    def _sample_base(self, pictures: Sequence[Picture], sampling: Sampling) -> Generator[StepEstimate, None, Tensor]:
        config = self.base.config
        conditions, constrain = self._known(pictures, config.image_size)
        prompts = [picture.prompt for picture in pictures]
        scales = torch.tensor([picture.guidance_scale for picture in pictures], device=self.device)
        if any(picture.guidance_scale != 1 for picture in pictures):
            prompts += [picture.negative_prompt for picture in pictures]
            model = with_guidance(self._denoiser(self.base, prompts, [torch.cat([c, c]) for c in conditions]), scales)
        else:
            model = self._denoiser(self.base, prompts, conditions)
        noise = NoiseSource([picture.seed for picture in pictures], config.image_size, self.device)
        run = SamplingRun(noise=noise.start(), steps=base_steps(sampling, config), constrain=constrain)
        return (yield from reported("base", run, trajectory(sampling.sampler, model, run, noise)))

    def _sample_upsampler(
        self, pictures: Sequence[Picture], samples: Tensor, sampling: Sampling
    ) -> Generator[StepEstimate, None, Tensor]:
        config = self.upsampler.config
        conditions, constrain = self._known(pictures, config.image_size)
        low_res = to_signed(to_uint8(samples)).to(self.device)  # in the 8 bits it was trained on
        enlarged = F.interpolate(low_res, (config.image_size, config.image_size), mode="bilinear")
        model = self._denoiser(self.upsampler, [picture.prompt for picture in pictures], [*conditions, enlarged])
        seeds = [picture.seed + 2**32 for picture in pictures]  # noise of its own, whatever the base model drew
        noise = NoiseSource(seeds, config.image_size, self.device, UPSAMPLER_TEMPERATURE)
        run = SamplingRun(noise=noise.start(), steps=upsampler_steps(sampling, config), constrain=constrain)
        return (yield from reported("upsample", run, trajectory(sampling.sampler, model, run, noise)))

    def _denoiser(self, unet: UNet, prompts: Sequence[str], conditions: Sequence[Tensor]) -> DenoisingModel:
        text = read_prompts(unet, self.tokenizer, prompts) if unet.config.text else None
        return denoiser(unet, text, conditions)

    def _known(self, pictures: Sequence[Picture], side: int) -> tuple[list[Tensor], Constrain]:
        """The known pixels and their mask as network inputs, and the constraint that keeps them."""
        if not self.inpaints:
            return [], clip
        image = torch.zeros(len(pictures), 3, side, side)
        mask = torch.zeros(len(pictures), 1, side, side)
        for row, picture in enumerate(pictures):
            if picture.known:
                whole = to_signed(picture.known.picture[None])
                keep = torch.from_numpy(picture.known.mask).float()[None, None]
                image[row] = F.adaptive_avg_pool2d(whole, side)[0]
                mask[row] = (F.adaptive_avg_pool2d(keep, side)[0] == 1).float()  # a pixel is known if all of it is
        image, mask = image.to(self.device), mask.to(self.device)
        return [image * mask, mask], keeping_known(image, mask)


def read_prompts(unet: UNet, tokenizer: Tokenizer, prompts: Sequence[str]) -> TextContext:
    """What a network reads of the prompts, each different one once."""
    device = unet.out_conv.weight.device
    different = list(dict.fromkeys(prompts))
    tokens, masks = zip(*map(tokenizer.encode, different), strict=True)
    text = unet.encode_text(torch.tensor(tokens, device=device), torch.tensor(masks, device=device))
    return text[torch.tensor([different.index(prompt) for prompt in prompts], device=device)]


def denoiser(unet: UNet, text: TextContext | None, conditions: Sequence[Tensor] = ()) -> DenoisingModel:
    """Wrap a network with its text and what its input carries besides x_t."""
    table = alpha_bars(unet.config.noise_schedule)

    def predict(x_t: Tensor, t: float) -> Prediction:
        inputs = torch.cat([x_t, *conditions], dim=1)
        output = predict_in_shares(unet, inputs, torch.full((len(x_t),), t, device=x_t.device), text)
        predicted, variance_mix = output.chunk(2, dim=1)
        return Prediction(as_eps(predicted, x_t, alpha_bar_at(table, t), unet.config), variance_mix)

    return predict


class NoiseSource:
    """Unit Gaussian noise, each picture's from a CPU generator of its own: independent of batch and device."""

    def __init__(self, seeds: Sequence[int], side: int, device: torch.device, temperature: float = 1.0) -> None:
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.shape, self.device, self.temperature = (3, side, side), device, temperature

    def start(self) -> Tensor:
        """The first x_t, (N, 3, side, side)."""
        return self.draw() * self.temperature

    def draw(self) -> Tensor:
        """The next noise, (N, 3, side, side)."""
        rows = [torch.randn(self.shape, generator=generator) for generator in self.generators]
        return torch.stack(rows).to(self.device)


def trajectory(name: SamplerName, model: DenoisingModel, run: SamplingRun, noise: NoiseSource) -> Trajectory:
    """Sample with one of the samplers, by name."""
    if name == "ddpm":
        return sample_ddpm(model, run, noise.draw)
    return sample_ddim(model, run) if name == "ddim" else sample_dpmpp_2m(model, run)


def reported(stage: StageName, run: SamplingRun, steps: Trajectory) -> Generator[StepEstimate, None, Tensor]:
    """A stage's steps as StepEstimate; returns the sample."""
    while True:
        try:
            step, x_start = next(steps)
        except StopIteration as end:
            return cast(Tensor, end.value)
        yield StepEstimate(stage=stage, step=step, total_steps=len(run.steps), x_start=x_start)


def base_steps(sampling: Sampling, config: UNetConfig) -> list[Step]:
    """The base model's steps: evenly re-spaced, or spaced for the solver."""
    if sampling.sampler == "dpmpp_2m":
        return steps_at(
            config.noise_schedule, solver_timesteps(sampling.steps, config.noise_schedule, config.prediction)
        )
    return steps_at(config.noise_schedule, space_timesteps(TIMESTEPS, sampling.steps))


def upsampler_steps(sampling: Sampling, config: UNetConfig) -> list[Step]:
    """The upsampler's steps; 27 of ddpm or ddim are fast27."""
    count = sampling.upsample_steps
    if sampling.sampler == "dpmpp_2m":
        return steps_at(config.noise_schedule, solver_timesteps(count, config.noise_schedule, config.prediction))
    timesteps = space_timesteps(TIMESTEPS, "fast27" if count == FAST27_STEPS else count)
    return steps_at(config.noise_schedule, timesteps)


def as_eps(predicted: Tensor, x_t: Tensor, alpha_bar: float, config: UNetConfig) -> Tensor:
    """The noise that a prediction of eps or x_start means."""
    if config.prediction == "x_start":
        return (x_t - math.sqrt(alpha_bar) * predicted) / math.sqrt(1 - alpha_bar)
    return predicted


def to_signed(pictures: Pixels) -> Tensor:
    """uint8 (N, H, W, 3) as float32 (N, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_uint8(samples: Tensor) -> Pixels:
    """(N, 3, H, W) in [-1, 1] as uint8 (N, H, W, 3)."""
    pixels = ((samples + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).contiguous().cpu().numpy()
