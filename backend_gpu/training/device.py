"""What makes training fast on the device at hand: precision, memory format, compiling."""

import torch

from backend_gpu.glide.acceleration import best_dtype
from backend_gpu.glide.unet import UNet


def chosen_device() -> torch.device:
    """A GPU if there is one, made ready for batches that are all of one shape."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    return torch.device("cuda")


def has_bfloat16(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16: where it is emulated, float32 is many times as fast."""
    return best_dtype(device) is torch.bfloat16


def placed(network: UNet, device: torch.device) -> UNet:
    """The network on a device, its convolutions in the memory format that pictures come in."""
    return network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's types lack it


def is_compiled_on(device: torch.device) -> bool:
    """Whether networks are compiled there: on a CPU that takes longer than it saves."""
    return device.type == "cuda"
