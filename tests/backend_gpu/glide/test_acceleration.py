import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from backend_gpu.glide import acceleration
from backend_gpu.glide.acceleration import accelerate, best_dtype
from backend_gpu.glide.config import TextConfig, UNetConfig
from backend_gpu.glide.unet import UNet

TEXT = TextConfig(vocab_size=12, context=6, width=32, layers=1, heads=1)
CONFIG = UNetConfig(
    image_size=32,
    num_channels=32,
    channel_mult=(1, 2),
    num_res_blocks=1,
    attention_resolutions=(32, 16),  # 1024 and 256 pixels: both go head by head
    head_channels=32,
    text=TEXT,
)


def random_unet(config: UNetConfig) -> UNet:
    torch.manual_seed(0)
    unet = UNet(config)
    for parameter in unet.parameters():
        nn.init.normal_(parameter, std=0.05)
    return unet.eval().requires_grad_(False)


def run(unet: UNet, batch: int = 2) -> torch.Tensor:
    config = unet.config
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(batch, config.in_channels, config.image_size, config.image_size, generator=generator)
    tokens = torch.arange(6).expand(batch, 6)
    with torch.inference_mode():
        text = unet.encode_text(tokens, tokens < 4) if config.text else None
        output: torch.Tensor = unet(x, torch.linspace(0, 999, batch), text)
    return output


@pytest.mark.parametrize("config", [CONFIG, replace(CONFIG, text=None)], ids=["text", "no text"])
def test_the_fast_form_computes_the_same(config: UNetConfig) -> None:
    plain = random_unet(config)
    fast = accelerate(copy.deepcopy(plain))
    expected = run(plain)
    for _ in range(2):  # weights are laid out anew in the first call
        assert (run(fast) - expected).norm() <= 5e-6 * expected.norm()  # the reference's own rounding, rms


def test_the_fast_form_takes_another_batch_size_after_its_weights_are_laid_out() -> None:
    fast = accelerate(random_unet(CONFIG))
    run(fast, batch=2)
    torch.testing.assert_close(run(fast, batch=5), run(random_unet(CONFIG), batch=5), rtol=1e-4, atol=1e-5)


def test_bfloat16_stays_near_float32() -> None:
    plain = random_unet(CONFIG)
    fast = accelerate(copy.deepcopy(plain).bfloat16())
    expected = run(plain)
    assert (run(fast) - expected).norm() <= 3e-2 * expected.norm()  # about 1e-2 at full size


def test_acceleration_keeps_names_and_values_of_the_parameters() -> None:
    plain = random_unet(CONFIG)
    fast = accelerate(copy.deepcopy(plain))
    run(fast)
    assert fast.state_dict().keys() == plain.state_dict().keys()
    assert all(torch.equal(fast.state_dict()[name], tensor) for name, tensor in plain.state_dict().items())


def test_attention_of_strided_keys_does_not_fall_into_a_slow_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    real = acceleration.ONEDNN._linear_pointwise

    class Watched:
        def __getattr__(self, name: str) -> object:
            return getattr(torch.ops.mkldnn, name)

        def _linear_pointwise(self, x: torch.Tensor, weight: torch.Tensor, *rest: object) -> torch.Tensor:
            if weight.layout == torch.strided:  # not one that oneDNN laid out
                seen.append(weight.is_contiguous() or weight.T.is_contiguous())
            result: torch.Tensor = real(x, weight, *rest)
            return result

    monkeypatch.setattr(acceleration, "ONEDNN", Watched())
    run(accelerate(random_unet(replace(CONFIG, text=None))))
    assert seen
    assert all(seen)


def test_a_cpu_never_computes_in_float16() -> None:
    assert best_dtype(torch.device("cpu")) in (torch.bfloat16, torch.float32)


@pytest.mark.gpu
def test_the_fast_form_computes_the_same_on_a_gpu() -> None:
    plain = random_unet(CONFIG)
    fast = accelerate(copy.deepcopy(plain).cuda())
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    tokens = torch.arange(6).expand(2, 6)
    t = torch.tensor([0.0, 999.0])
    with torch.inference_mode():
        expected = plain(x, t, plain.encode_text(tokens, tokens < 4))
        text = fast.encode_text(tokens.cuda(), (tokens < 4).cuda())
        found = fast(x.cuda(), t.cuda(), text).cpu()
    assert (found - expected).norm() <= 2e-3 * expected.norm()  # TF32 convolutions
