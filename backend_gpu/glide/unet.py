"""GLIDE's UNet: the ADM architecture (Dhariwal & Nichol 2021) whose attention also reads the text.

Feature maps are (N, C, H, W) in whichever memory format x and the weights come in; attention works on (N, H*W, C).
"""

import math
from dataclasses import dataclass
from typing import TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backend_gpu.glide.config import UNetConfig
from backend_gpu.glide.text_transformer import TextTransformer

GROUPS = 32
M = TypeVar("M", nn.Conv2d, nn.Linear)


@dataclass(frozen=True)
class TextContext:
    """What the UNet reads of N prompts: computed once, used in every step."""

    pooled: Tensor  # (N, E), added to the time embedding
    keys_values: tuple[Tensor | None, ...]  # of each stage, (N, heads, L, 2 d), keys first; None without attention

    def __getitem__(self, rows: Tensor | slice) -> "TextContext":
        """The contexts of some of the prompts."""
        return TextContext(self.pooled[rows], tuple(kv if kv is None else kv[rows] for kv in self.keys_values))


def timestep_embedding(t: Tensor, channels: int) -> Tensor:
    """Sinusoids of t (N,) as (N, channels), cosines first, in float32 as the published models were trained."""
    half = channels // 2
    frequencies = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32, device=t.device) / half)
    angles = t.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class ResBlock(nn.Module):
    """Two convolutions with scale and shift from the embedding; may halve or double the resolution in between."""

    def __init__(self, in_channels: int, out_channels: int, embedding_channels: int, resample: str = "") -> None:
        super().__init__()
        self.resample = resample  # "", "up" or "down"
        self.in_norm = nn.GroupNorm(GROUPS, in_channels)
        self.in_conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.embedding = nn.Linear(embedding_channels, 2 * out_channels)
        self.out_norm = nn.GroupNorm(GROUPS, out_channels)
        self.out_conv = zeroed(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        self.skip = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Apply to x (N, C, H, W) with the activated embedding (N, E)."""
        h = F.silu(self.in_norm(x))
        if self.resample == "up":
            h, x = (F.interpolate(z, scale_factor=2, mode="nearest") for z in (h, x))
        elif self.resample == "down":
            h, x = (F.avg_pool2d(z, 2) for z in (h, x))
        h = self.in_conv(h)
        scale, shift = self.embedding(embedding)[:, :, None, None].chunk(2, dim=1)
        h = torch.addcmul(shift, self.out_norm(h), 1 + scale)
        return self.skip(x) + self.out_conv(F.silu(h))


class Attention(nn.Module):
    """Self-attention over the pixels whose keys and values are preceded by the text's."""

    def __init__(self, channels: int, head_channels: int, text_width: int | None) -> None:
        super().__init__()
        self.heads = channels // head_channels
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        if text_width is not None:
            self.text_kv = nn.Linear(text_width, 2 * channels)
        self.proj = zeroed(nn.Linear(channels, channels))

    def project_text(self, states: Tensor) -> Tensor:
        """Keys and values (N, heads, L, 2 d) of text states (N, L, D)."""
        return self.text_kv(states).unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attended values, shaped like q (N, heads, H W, d); k and v are longer by the text."""
        return F.scaled_dot_product_attention(q, k, v)

    def forward(self, x: Tensor, text_kv: Tensor | None) -> Tensor:
        pixels = self.norm(x).permute(0, 2, 3, 1).flatten(1, 2)  # (N, H W, C)
        qkv = self.qkv(pixels).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (N, heads, H W, 3 d)
        q, k, v = qkv.chunk(3, -1)
        if text_kv is not None:
            text_k, text_v = text_kv.chunk(2, -1)
            k, v = torch.cat([text_k, k], 2), torch.cat([text_v, v], 2)
        attended = self.proj(self.attend(q, k, v).transpose(1, 2).flatten(2))  # (N, H W, C)
        return x + attended.unflatten(1, x.shape[2:]).permute(0, 3, 1, 2)


class Stage(nn.ModuleList):
    """A res block, attention if there is one, another res block if there is one.

    A list, because the parameters in the files are named by a layer's number within its stage.
    """

    def __init__(self, first: ResBlock, attention: Attention | None = None, last: ResBlock | None = None) -> None:
        super().__init__(layer for layer in (first, attention, last) if layer is not None)
        self.attends, self.has_last = attention is not None, last is not None

    def project_text(self, states: Tensor) -> Tensor | None:
        """The attention's keys and values of text states (N, L, D)."""
        return cast(Attention, self[1]).project_text(states) if self.attends else None

    def forward(self, h: Tensor, embedding: Tensor, text_kv: Tensor | None) -> Tensor:
        h = self[0](h, embedding)
        if self.attends:
            h = self[1](h, text_kv)
        return self[-1](h, embedding) if self.has_last else h


class UNet(nn.Module):
    """Predicts the noise in x_t (and where its variance lies) from x_t, t and the text."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        embedding_channels = config.embedding_channels
        text_width = config.text.width if config.text else None
        if config.text:
            self.text = TextTransformer(config.text, embedding_channels)
        self.time_embed = nn.Sequential(
            nn.Linear(config.num_channels, embedding_channels),
            nn.SiLU(),
            nn.Linear(embedding_channels, embedding_channels),
        )

        def res_block(in_channels: int, out_channels: int, resample: str = "") -> ResBlock:
            return ResBlock(in_channels, out_channels, embedding_channels, resample)

        def attention(channels: int) -> Attention:
            return Attention(channels, config.head_channels, text_width)

        patch_area = config.patch_size**2
        levels = [config.num_channels * mult for mult in config.channel_mult]
        side = config.image_size // config.patch_size
        channels = levels[0]
        skips = [channels]
        stem = nn.Sequential(nn.Conv2d(config.in_channels * patch_area, channels, 3, padding=1))
        self.down = nn.ModuleList([stem])
        for level, width in enumerate(levels):
            attends = side in config.attention_resolutions
            for _ in range(config.num_res_blocks):
                self.down.append(Stage(res_block(channels, width), attention(width) if attends else None))
                channels = width
                skips.append(channels)
            if level + 1 < len(levels):
                self.down.append(Stage(res_block(channels, channels, "down")))
                skips.append(channels)
                side //= 2

        self.middle = Stage(res_block(channels, channels), attention(channels), res_block(channels, channels))

        self.up = nn.ModuleList()
        for level, width in reversed(list(enumerate(levels))):
            attends = side in config.attention_resolutions
            for repeat in range(config.num_res_blocks + 1):
                first = res_block(channels + skips.pop(), width)
                is_last = level > 0 and repeat == config.num_res_blocks
                self.up.append(
                    Stage(
                        first,
                        attention(width) if attends else None,
                        res_block(width, width, "up") if is_last else None,
                    )
                )
                channels = width
            if level:
                side *= 2

        self.out_norm = nn.GroupNorm(GROUPS, channels)
        self.out_conv = zeroed(nn.Conv2d(channels, 6 * patch_area, 3, padding=1))

    def encode_text(self, tokens: Tensor, mask: Tensor) -> TextContext:
        """Read tokens (N, L) int64 and their mask (N, L), once for all steps."""
        states, pooled = self.text(tokens, mask)
        return TextContext(pooled, tuple(stage.project_text(states) for stage in self.stages()))

    def stages(self) -> list[Stage]:
        """All stages, from the picture's resolution down to the middle and up again."""
        return [*list(self.down)[1:], self.middle, *self.up]

    def forward(self, x: Tensor, t: Tensor, text: TextContext | None = None) -> Tensor:
        """Run one denoising step's network.

        Args:
            x: (N, in_channels, H, W): x_t, then what the config adds (known pixels, mask, low_res), in [-1, 1].
            t: timesteps (N,), may be fractional.
            text: context of N prompts; None for a model without text.

        Returns: (N, 6, H, W) float32: the prediction (`config.prediction`), then the variance interpolation in [-1, 1].
        """
        dtype = self.out_conv.weight.dtype
        embedding = self.time_embed(timestep_embedding(t, self.config.num_channels).to(dtype))
        if text is not None:
            embedding = embedding + text.pooled
        embedding = F.silu(embedding)
        text_kv: dict[nn.Module, Tensor | None] = {}
        if text is not None:
            text_kv.update(zip(self.stages(), text.keys_values, strict=True))

        stem, *down = self.down
        h = stem(F.pixel_unshuffle(x.to(dtype), self.config.patch_size))
        skips = [h]
        for stage in down:
            h = stage(h, embedding, text_kv.get(stage))
            skips.append(h)
        h = self.middle(h, embedding, text_kv.get(self.middle))
        for stage in self.up:
            h = stage(torch.cat([h, skips.pop()], dim=1), embedding, text_kv.get(stage))
        h = self.out_conv(F.silu(self.out_norm(h)))
        return F.pixel_shuffle(h, self.config.patch_size).float()


def zeroed(layer: M) -> M:
    """Start a residual branch as a no-op."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
