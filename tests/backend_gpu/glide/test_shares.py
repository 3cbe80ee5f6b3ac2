import threading
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from backend_gpu.glide.acceleration import accelerate
from backend_gpu.glide.config import UNetConfig
from backend_gpu.glide.shares import predict_in_shares
from backend_gpu.glide.unet import TextContext, UNet
from tests.backend_gpu.glide.tiny_checkpoint import TINY


class Noted(UNet):
    """A network that notes which thread it runs in, and how many of torch's own that has."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__(config)
        self.ran: list[tuple[str, int, int]] = []

    def forward(self, x: Tensor, t: Tensor, text: TextContext | None = None) -> Tensor:
        self.ran.append((threading.current_thread().name, len(x), torch.get_num_threads()))
        return super().forward(x, t, text)


def noted(config: UNetConfig = TINY) -> Noted:
    torch.manual_seed(0)
    unet = Noted(config)
    for parameter in unet.parameters():
        nn.init.normal_(parameter, std=0.05)
    accelerate(unet.eval().requires_grad_(False))
    return unet


def batch(rows: int, config: UNetConfig, unet: UNet) -> tuple[Tensor, Tensor, TextContext | None]:
    inputs = torch.randn(rows, 3, 16, 16)
    tokens = torch.arange(4).expand(rows, 4)
    text = unet.encode_text(tokens, torch.ones_like(tokens, dtype=torch.bool)) if config.text else None
    return inputs, torch.linspace(1, 900, rows), text


@pytest.fixture(autouse=True)
def threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four, however many cores the machine has."""
    here, number = threading.current_thread(), torch.get_num_threads
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4 if threading.current_thread() is here else number())


@pytest.mark.parametrize("config", [TINY, replace(TINY, text=None)], ids=["text", "no text"])
@pytest.mark.parametrize(("rows", "shares"), [(2, [1, 1]), (4, [1, 1, 1, 1]), (6, [3, 3])])
@torch.inference_mode()
def test_each_thread_takes_rows_of_its_own_and_the_result_is_the_same(
    config: UNetConfig, rows: int, shares: list[int]
) -> None:
    unet = noted(config)
    inputs, t, text = batch(rows, config, unet)
    expected = UNet.forward(unet, inputs, t, text)
    torch.testing.assert_close(predict_in_shares(unet, inputs, t, text), expected, rtol=0, atol=1e-5)
    assert sorted(number for _, number, _ in unet.ran) == shares
    assert {threads for _, _, threads in unet.ran} == {4 // len(shares)}  # so that all together have four
    assert not any(name == threading.current_thread().name for name, _, _ in unet.ran)


@pytest.mark.parametrize("rows", [1, 3])
@torch.inference_mode()
def test_rows_that_cannot_be_shared_equally_have_all_threads_together(rows: int) -> None:
    unet = noted()
    predict_in_shares(unet, *batch(rows, TINY, unet))
    assert unet.ran == [(threading.current_thread().name, rows, 4)]


def test_whoever_needs_gradients_or_autocast_gets_them() -> None:
    unet = noted()
    inputs, t, text = batch(2, TINY, unet)
    inputs.requires_grad_()
    assert predict_in_shares(unet, inputs, t, text).requires_grad
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        predict_in_shares(unet, inputs, t, text)
    assert [rows for _, rows, _ in unet.ran] == [2, 2]


@torch.inference_mode()
def test_an_error_in_a_share_is_the_callers() -> None:
    unet = noted()
    inputs, t, text = batch(2, TINY, unet)
    with pytest.raises(RuntimeError) as alone:
        unet(inputs[:, :2], t, text)
    with pytest.raises(RuntimeError) as in_shares:
        predict_in_shares(unet, inputs[:, :2], t, text)
    assert str(in_shares.value) == str(alone.value)
