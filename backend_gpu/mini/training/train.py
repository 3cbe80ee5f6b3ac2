"""Train the mini model's two networks on rendered scenes; stops and resumes at any time."""

import copy
import json
import math
import os
import random
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backend_gpu.glide.config import TextConfig, UNetConfig
from backend_gpu.glide.schedule import alpha_bars
from backend_gpu.glide.tokenizer import WordTokenizer
from backend_gpu.glide.unet import UNet
from backend_gpu.mini.training.scenes import Mix, random_scene, render
from backend_gpu.mini.vocabulary import Vocabulary, load_vocabulary

TEXT_CONTEXT = 20  # tokens; the longest caption of the grammar has 19
CAPTION_DROPOUT = 0.12  # share of empty captions, for classifier-free guidance
EMA_DECAY = 0.999
MAX_X_START_WEIGHT = 5.0
SAVE_INTERVAL_S = 120


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One training run."""

    minutes: float  # of training in all, over all resumptions
    batch_size: int
    learning_rate: float
    mix: Mix
    side: int  # of the pictures (base) or of their crops (upsampler)
    timestep_bias: float  # t = 1000 u^bias: below 1 trains more on noisy pictures
    seed: int = 0


def base_config(words: int) -> UNetConfig:
    """The mini base model: 64x64, in patches of 4."""
    return UNetConfig(
        num_channels=64,
        channel_mult=(1, 3),
        num_res_blocks=1,
        attention_resolutions=(8,),
        text=TextConfig(vocab_size=words + 2, context=TEXT_CONTEXT, width=128, layers=2, heads=2),
        patch_size=4,
        prediction="x_start",
    )


UPSAMPLER_CONFIG = UNetConfig(
    image_size=256,
    in_channels=6,
    num_channels=64,
    channel_mult=(1, 2),
    num_res_blocks=1,
    attention_resolutions=(),
    text=None,
    noise_schedule="linear",
    patch_size=8,
    prediction="x_start",
)


class Batches:
    """An endless stream of rendered pictures and their captions, as tensors."""

    def __init__(self, vocabulary: Vocabulary, tokenizer: WordTokenizer, plan: Plan) -> None:
        self.vocabulary, self.tokenizer, self.plan = vocabulary, tokenizer, plan
        self.rng = random.Random(plan.seed)

    def captioned(self) -> tuple[Tensor, Tensor, Tensor]:
        """Pictures (N, 3, side, side) in [-1, 1], tokens (N, L) and mask (N, L)."""
        pictures, tokens, masks = [], [], []
        for _ in range(self.plan.batch_size):
            scene = random_scene(self.vocabulary, self.plan.mix, self.rng)
            pictures.append(render(scene, self.vocabulary, self.plan.side, self.rng))
            caption = "" if self.rng.random() < CAPTION_DROPOUT else scene.caption()
            ids, mask = self.tokenizer.encode(caption)
            tokens.append(ids)
            masks.append(mask)
        return to_signed(np.stack(pictures)), torch.tensor(tokens), torch.tensor(masks)

    def crops(self) -> tuple[Tensor, Tensor]:
        """Crops (N, 3, side, side) of 256x256 pictures and their low_res (N, 3, side/4, side/4), both in [-1, 1].

        low_res is sometimes softened and noised, as the base model's pictures are never perfect.
        """
        side = self.plan.side
        crops = np.empty((self.plan.batch_size, side, side, 3), np.uint8)
        for start in range(0, self.plan.batch_size, 4):  # four crops of each picture
            scene = random_scene(self.vocabulary, self.plan.mix, self.rng)
            picture = render(scene, self.vocabulary, 256, self.rng)
            for row in range(start, min(start + 4, self.plan.batch_size)):
                top, left = (4 * self.rng.randrange((256 - side) // 4 + 1) for _ in range(2))
                crops[row] = picture[top : top + side, left : left + side]
        pictures = to_signed(crops)
        low_res = F.avg_pool2d(pictures, 4)
        if self.rng.random() < 0.5:
            softened = F.avg_pool2d(F.pad(low_res, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
            low_res = torch.lerp(low_res, softened, self.rng.random() * 0.7)
        noise = torch.from_numpy(np.random.default_rng(self.rng.getrandbits(32)).standard_normal(low_res.shape, np.float32))
        return pictures, low_res + noise * self.rng.random() * 0.06


def to_signed(pictures: np.ndarray) -> Tensor:
    """uint8 (N, H, W, 3) as float32 (N, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def x_start_loss(output: Tensor, x_start: Tensor, alpha_bar: Tensor) -> Tensor:
    """Squared error of x_start, weighted 1 / (1 - alpha_bar) (the flat loss on v), at most MAX_X_START_WEIGHT."""
    weight = (1 / (1 - alpha_bar)).clamp(max=MAX_X_START_WEIGHT)
    return (weight * (output[:, :3] - x_start).square()).mean()


class Training:
    """A network, its average, its optimiser and how far it got."""

    def __init__(self, network: UNet, plan: Plan, checkpoint: Path) -> None:
        self.network, self.plan, self.checkpoint = network, plan, checkpoint
        self.average = copy.deepcopy(network).eval().requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            network.parameters(), plan.learning_rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True
        )
        self.steps, self.minutes = 0, 0.0
        if checkpoint.exists():
            state = torch.load(checkpoint, weights_only=True)
            network.load_state_dict(state["network"])
            self.average.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.steps, self.minutes = state["steps"], state["minutes"]

    def update(self, loss: Tensor) -> None:
        """One step of the optimiser and of the average; the learning rate rises, stays, and falls in the last 45%."""
        done = self.minutes / self.plan.minutes
        rate = min(1.0, (self.steps + 1) / 200) * min(1.0, max(0.02, (1 - done) / 0.45))
        for group in self.optimizer.param_groups:
            group["lr"] = self.plan.learning_rate * rate
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0, foreach=True)
        self.optimizer.step()
        self.steps += 1
        decay = min(EMA_DECAY, self.steps / (self.steps + 10))
        torch._foreach_lerp_(list(self.average.parameters()), list(self.network.parameters()), 1 - decay)

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        state = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "steps": self.steps,
            "minutes": self.minutes,
        }
        temporary = self.checkpoint.with_suffix(".new")
        torch.save(state, temporary)
        os.replace(temporary, self.checkpoint)


def train(training: Training, batches: Batches, device: torch.device) -> None:
    """Run the plan to its end, saving every two minutes; prints a line with the loss every hundred steps."""
    plan, config = training.plan, training.network.config
    table = torch.from_numpy(alpha_bars(config.noise_schedule)).float().to(device)
    generator = torch.Generator().manual_seed(plan.seed + training.steps)
    losses: list[float] = []
    saved_at = ticked_at = time.monotonic()
    while training.minutes < plan.minutes:
        strata = (torch.arange(plan.batch_size) + torch.rand(plan.batch_size, generator=generator)) / plan.batch_size
        t = (1000 * strata**plan.timestep_bias).long().clamp(max=999)[torch.randperm(plan.batch_size, generator=generator)]
        alpha_bar = table[t][:, None, None, None]
        if config.text:
            x_start, tokens, mask = (z.to(device) for z in batches.captioned())
            conditions = []
        else:
            x_start, low_res = (z.to(device) for z in batches.crops())
            conditions = [F.interpolate(low_res, scale_factor=4, mode="bilinear")]
        eps = torch.randn(x_start.shape, generator=generator).to(device)
        x_t = alpha_bar.sqrt() * x_start + (1 - alpha_bar).sqrt() * eps
        with torch.autocast(device.type, torch.bfloat16):
            text = training.network.encode_text(tokens, mask) if config.text else None
            output = training.network(torch.cat([x_t, *conditions], dim=1), t.to(device), text)
        loss = x_start_loss(output, x_start, alpha_bar)
        training.update(loss)
        losses.append(loss.item())

        now = time.monotonic()
        training.minutes += (now - ticked_at) / 60
        ticked_at = now
        if len(losses) == 100:
            seen = training.steps * plan.batch_size
            print(f"{training.minutes:7.2f}/{plan.minutes:g} min  {seen:9,} pictures  loss {np.mean(losses):.4f}", flush=True)
            losses.clear()
        if now - saved_at > SAVE_INTERVAL_S:
            training.save()
            saved_at = now
    training.save()
