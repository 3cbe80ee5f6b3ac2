"""What makes inference fast on the hardware at hand: precision, memory format, kernels, and how weights are laid out."""

import ctypes
import platform

import torch
from torch import Tensor, nn

from backend_gpu.glide.unet import Attention, UNet

ONEDNN = torch.ops.mkldnn
ONEDNN_PIXELS = 256  # attention over fewer is as fast in one call


def best_dtype(device: torch.device) -> torch.dtype:
    """The fastest dtype that is good enough: bfloat16 where the hardware multiplies it; never float16 on a CPU."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16
    capabilities = torch.cpu.get_capabilities()
    return torch.bfloat16 if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else torch.float32


def accelerate(unet: UNet) -> UNet:
    """Make the inference of a UNet fast where it lies, in place; it computes the same up to rounding.

    Names, shapes and values of the parameters stay, and training stays possible. On an x86 CPU each weight is laid out
    anew for oneDNN when it is first used, so this itself takes no time.
    """
    if not unet.out_conv.weight.is_cpu:
        return unet.to(memory_format=torch.channels_last)
    if torch.backends.mkldnn.is_available() and torch.cpu.get_capabilities()["architecture"] == "x86_64":
        faster = {nn.Conv2d: PackedConv2d, nn.Linear: PackedLinear, Attention: OneDnnAttention}
        for module in unet.modules():
            module.__class__ = faster.get(type(module), type(module))
    return unet


class PackedConv2d(nn.Conv2d):
    """A convolution whose weight lies as oneDNN wants it; the result is channels-last."""

    packed: "Packed | None" = None

    def forward(self, x: Tensor) -> Tensor:
        if not runs_in_onednn(x, self.weight):
            return super().forward(x)
        shape = (self.padding, self.stride, self.dilation, self.groups)
        if self.packed is None or self.packed.is_stale(self.weight):
            self.packed = Packed(self.weight, ONEDNN._reorder_convolution_weight(self.weight, *shape, x.shape))
        return ONEDNN._convolution_pointwise(x, self.packed.tensor, self.bias, *shape, "none", [], "")


class PackedLinear(nn.Linear):
    """A linear layer whose weight lies as oneDNN wants it; in float32 that also avoids MKL, slow on AMD."""

    packed: "Packed | None" = None

    def forward(self, x: Tensor) -> Tensor:
        if not runs_in_onednn(x, self.weight):
            return super().forward(x)
        if self.packed is None or self.packed.is_stale(self.weight):
            rows = x.numel() // self.in_features
            self.packed = Packed(self.weight, ONEDNN._reorder_linear_weight(self.weight, rows))
        return ONEDNN._linear_pointwise(x, self.packed.tensor, self.bias, "none", [], "")


class Packed:
    """A weight laid out for oneDNN, and the state of the weight that it was made of."""

    def __init__(self, weight: Tensor, tensor: Tensor) -> None:
        self.tensor = tensor
        self.state = weight_state(weight)

    def is_stale(self, weight: Tensor) -> bool:
        return self.state != weight_state(weight)

class OneDnnAttention(Attention):
    """Attention head by head through oneDNN: scores stay in the cache, and no product goes through MKL."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if q.shape[2] < ONEDNN_PIXELS or not runs_in_onednn(q, k):
            return super().attend(q, k, v)
        q = q * q.shape[-1] ** -0.5
        out = q.new_empty(q.shape[0], q.shape[2], q.shape[1], q.shape[3]).transpose(1, 2)  # (N, heads, H W, d)
        for picture in range(q.shape[0]):
            for head in range(q.shape[1]):
                at = picture, head
                weights = ONEDNN._linear_pointwise(q[at], k[at], None, "none", [], "").softmax(-1)
                out[at] = ONEDNN._linear_pointwise(weights, v[at].T, None, "none", [], "")
        return out


def runs_in_onednn(*tensors: Tensor) -> bool:
    """Whether oneDNN's operators, which know no gradients, can be called with these."""
    return all(tensor.is_cpu and not (tensor.requires_grad and torch.is_grad_enabled()) for tensor in tensors)


def weight_state(weight: Tensor) -> tuple[int,int,torch.dtype]:
    return weight.data_ptr(), 0 if weight.is_inference() else weight._version, weight.dtype
