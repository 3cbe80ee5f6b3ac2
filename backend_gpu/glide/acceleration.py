"""What makes inference fast on the hardware at hand: precision, memory format, kernels, allocation."""

import ctypes
import platform

import torch
from torch import Tensor, nn

from backend_gpu.glide.unet import Attention, UNet

ONEDNN = torch.ops.mkldnn
ONEDNN_PIXELS = 256  # attention over fewer is as fast in one call
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's mallopt
LARGEST_KEPT_BYTES = 2**31 - 1  # the most that mallopt can be told


def best_dtype(device: torch.device) -> torch.dtype:
    """The fastest dtype that is good enough: bfloat16 where the hardware multiplies it; never float16 on a CPU."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16
    capabilities = torch.cpu.get_capabilities()
    return torch.bfloat16 if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else torch.float32


def accelerate(unet: UNet) -> UNet:
    """Make inference with a UNet fast where it lies, in place; it computes the same up to rounding.

    The parameters keep their names, shapes and values, and must not change any more: on an x86 CPU oneDNN's layout of
    each weight is made when it is first used and kept.
    """
    if not unet.out_conv.weight.is_cpu:
        for parameter in unet.parameters():
            if parameter.ndim == 4:  # of a convolution
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        return unet
    keep_freed_memory()
    if torch.cpu.get_capabilities()["architecture"] == "x86_64":
        faster = {nn.Conv2d: PackedConv2d, nn.Linear: PackedLinear, Attention: OneDnnAttention}
        for module in unet.modules():
            module.__class__ = faster.get(type(module), type(module))
    return unet


def keep_freed_memory() -> None:
    """Let glibc reuse the memory of large tensors, where it would return it and get it back page by page each time."""
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        for option in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD):
            libc.mallopt(option, LARGEST_KEPT_BYTES)


class PackedConv2d(nn.Conv2d):
    """A convolution whose weight lies as oneDNN wants it; the result is channels-last."""

    packed: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if not runs_in_onednn(x, self.weight):
            return super().forward(x)
        shape = (self.padding, self.stride, self.dilation, self.groups)
        if self.packed is None:
            self.packed = ONEDNN._reorder_convolution_weight(self.weight, *shape, x.shape)
        result: Tensor = ONEDNN._convolution_pointwise(x, self.packed, self.bias, *shape, "none", [], "")
        return result


class PackedLinear(nn.Linear):
    """A linear layer whose weight lies as oneDNN wants it; in float32 that also avoids MKL, slow on AMD."""

    packed: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if not runs_in_onednn(x, self.weight):
            return super().forward(x)
        if self.packed is None:
            self.packed = ONEDNN._reorder_linear_weight(self.weight, x.numel() // self.in_features)
        result: Tensor = ONEDNN._linear_pointwise(x, self.packed, self.bias, "none", [], "")
        return result


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
                weights = ONEDNN._linear_pointwise(q[at], k[at], None, "none", [], "").softmax(-1)
                out[at] = ONEDNN._linear_pointwise(weights, v[at].T, None, "none", [], "")
        return out


def runs_in_onednn(*tensors: Tensor) -> bool:
    """Whether oneDNN's operators, which know no gradients, can be called with these; bfloat16 not on every CPU."""
    return all(
        tensor.is_cpu
        and not (tensor.requires_grad and torch.is_grad_enabled())
        and (tensor.dtype != torch.bfloat16 or ONEDNN._is_mkldnn_bf16_supported())
        for tensor in tensors
    )
