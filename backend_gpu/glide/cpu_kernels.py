"""Layers that run in oneDNN with weights laid out for it: torch's private operators, all of them in this file."""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backend_gpu.glide.unet import Attention, UNet

ONEDNN = torch.ops.mkldnn
ONEDNN_PIXELS = 256  # attention over fewer is as fast in one call


def pack(unet: UNet) -> None:
    """Give a UNet's layers their forms below, in place, if this torch has the operators; else leave them as they are.

    The parameters keep their names and values, and must not change any more: oneDNN's layout of each weight is made
    when it is first used and kept.
    """
    if not works_as_expected():
        return
    faster = {nn.Conv2d: PackedConv2d, nn.Linear: PackedLinear, Attention: OneDnnAttention}
    for module in unet.modules():
        module.__class__ = faster.get(type(module), type(module))


@cache
def works_as_expected() -> bool:
    """Whether the layers below compute what torch's own do; another version of torch may lack or change an operator."""
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            conv, linear = PackedConv2d(4, 4, 3, padding=1), PackedLinear(5, 8)
            pixels = torch.randn(2, 4, 5, 5)
            rows, keys = pixels.flatten(0, 2), torch.randn(3, 5)
            pairs = (
                (conv(pixels), F.conv2d(pixels, conv.weight, conv.bias, padding=1)),
                (linear(rows), F.linear(rows, linear.weight, linear.bias)),
                (product(rows, keys), rows @ keys.T),
            )
            return all(torch.allclose(ours, expected, atol=1e-4) for ours, expected in pairs)
    except (AttributeError, RuntimeError, TypeError):
        return False


class PackedConv2d(nn.Conv2d):
    """A convolution whose weight lies as oneDNN wants it; the result is channels-last."""

    packed: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if not runs_in_onednn(x, self.weight):
            return super().forward(x)
        shape = (self.padding, self.stride, self.dilation, self.groups)
        if self.packed is None:
            self.packed = ONEDNN._reorder_convolution_weight(self.weight, *shape, x.shape)
        return ONEDNN._convolution_pointwise(x, self.packed, self.bias, *shape, "none", [], "")


class PackedLinear(nn.Linear):
    """A linear layer whose weight lies as oneDNN wants it; in float32 that also avoids MKL, slow on AMD."""

    packed: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if not runs_in_onednn(x, self.weight):
            return super().forward(x)
        if self.packed is None:
            self.packed = ONEDNN._reorder_linear_weight(self.weight, x.numel() // self.in_features)
        return product(x, self.packed, self.bias)


class OneDnnAttention(Attention):
    """Attention head by head through oneDNN: scores stay in the cache, and no product goes through MKL."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if q.shape[2] < ONEDNN_PIXELS or not runs_in_onednn(q, k):
            return super().attend(q, k, v)
        q, k, v = q * q.shape[-1] ** -0.5, k.contiguous(), v.contiguous()  # strided, oneDNN is 100 times slower
        out = q.new_empty(q.shape[0], q.shape[2], q.shape[1], q.shape[3]).transpose(1, 2)  # (N, heads, H W, d)
        for picture in range(q.shape[0]):
            for head in range(q.shape[1]):
                at = picture, head
                out[at] = product(product(q[at], k[at]).softmax(-1), v[at].T)
        return out


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """As `F.linear`."""
    return ONEDNN._linear_pointwise(x, weight, bias, "none", [], "")


def runs_in_onednn(*tensors: Tensor) -> bool:
    """Whether oneDNN's operators, which know no gradients, can be called with these; bfloat16 not on every CPU."""
    return all(
        tensor.is_cpu
        and not (tensor.requires_grad and torch.is_grad_enabled())
        and (tensor.dtype != torch.bfloat16 or ONEDNN._is_mkldnn_bf16_supported())
        for tensor in tensors
    )
