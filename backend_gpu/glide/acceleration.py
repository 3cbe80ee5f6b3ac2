"""What makes inference fast on the hardware at hand: precision, memory format, kernels, allocation."""

import ctypes
import platform

import torch

from backend_gpu.glide.cpu_kernels import pack
from backend_gpu.glide.unet import UNet

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's mallopt
LARGEST_KEPT_BYTES = 2**31 - 1  # the most that mallopt takes


def best_dtype(device: torch.device) -> torch.dtype:
    """The fastest dtype that is good enough: bfloat16 where the hardware multiplies it; never float16 on a CPU."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16
    capabilities = torch.cpu.get_capabilities()
    return torch.bfloat16 if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else torch.float32


def accelerate(unet: UNet) -> UNet:
    """Make inference with a UNet fast where it lies, in place; it computes the same up to rounding.

    The parameters keep their names, shapes and values, and must not change any more.
    """
    if not unet.out_conv.weight.is_cpu:
        for parameter in unet.parameters():
            if parameter.ndim == 4:  # of a convolution
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        return unet
    keep_freed_memory()
    if torch.cpu.get_capabilities()["architecture"] == "x86_64":
        pack(unet)
    return unet


def keep_freed_memory() -> None:
    """Let glibc reuse the memory of large tensors, where it would return it and get it back page by page each time."""
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        for option in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD):
            libc.mallopt(option, LARGEST_KEPT_BYTES)
