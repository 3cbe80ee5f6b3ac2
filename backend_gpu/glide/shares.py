"""A batch on a CPU: each core, or each few of them, takes rows of its own.

Threads that share every operator wait for one another hundreds of times in a pass, and sleep meanwhile (see
`let_waiting_threads_sleep` of the settings). With rows of their own they meet once.
"""

import math
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch
from torch import Tensor

from backend_gpu.glide.unet import TextContext, UNet


def predict_in_shares(unet: UNet, inputs: Tensor, t: Tensor, text: TextContext | None) -> Tensor:
    """What `UNet.forward` returns, up to rounding.

    Only for inference without autocast: a thread has its own modes, so another would not see those of the caller.
    """
    threads = torch.get_num_threads()
    number = math.gcd(len(inputs), threads)  # shares of equal size, by equally many cores: none waits long for another
    is_plain_inference = torch.is_inference_mode_enabled() and not torch.is_autocast_enabled("cpu")
    if number < 2 or not inputs.is_cpu or not is_plain_inference:
        return unet(inputs, t, text)

    def predict(rows: Tensor) -> Tensor:
        with torch.inference_mode():
            return unet(inputs[rows], t[rows], None if text is None else text[rows])

    shares = torch.arange(len(inputs)).chunk(number)
    return torch.cat(list(workers(number, threads // number).map(predict, shares)))


@cache
def workers(number: int, threads: int) -> ThreadPoolExecutor:
    """That many threads, each with so many of torch's own."""
    return ThreadPoolExecutor(number, "rows", initializer=torch.set_num_threads, initargs=(threads,))
