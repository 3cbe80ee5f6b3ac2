import copy
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from backend_gpu.glide import cpu_kernels
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
    real = cpu_kernels.ONEDNN._linear_pointwise

    class Watched:
        def __getattr__(self, name: str) -> object:
            return getattr(torch.ops.mkldnn, name)

        def _linear_pointwise(self, x: torch.Tensor, weight: torch.Tensor, *rest: object) -> torch.Tensor:
            if weight.layout == torch.strided:  # not one that oneDNN laid out
                seen.append(weight.is_contiguous() or weight.T.is_contiguous())
            result: torch.Tensor = real(x, weight, *rest)
            return result

    fast = accelerate(random_unet(replace(CONFIG, text=None)))
    monkeypatch.setattr(cpu_kernels, "ONEDNN", Watched())
    run(fast)
    assert seen
    assert all(seen)


@pytest.fixture
def operators(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """oneDNN's operators, of which a test may take or spoil one, as another version of torch might."""
    names = (
        "_reorder_convolution_weight",
        "_convolution_pointwise",
        "_reorder_linear_weight",
        "_linear_pointwise",
        "_is_mkldnn_bf16_supported",
    )
    operators = SimpleNamespace(**{name: getattr(torch.ops.mkldnn, name) for name in names})
    monkeypatch.setattr(cpu_kernels, "ONEDNN", operators)
    cpu_kernels.works_as_expected.cache_clear()
    yield operators
    cpu_kernels.works_as_expected.cache_clear()


def without(operators: SimpleNamespace) -> None:
    del operators._reorder_linear_weight


def with_another_signature(operators: SimpleNamespace) -> None:
    real = operators._convolution_pointwise
    operators._convolution_pointwise = lambda x, weight, bias: real(x, weight, bias)


def with_another_meaning(operators: SimpleNamespace) -> None:
    real = operators._linear_pointwise
    operators._linear_pointwise = lambda *arguments: 2 * real(*arguments)


@pytest.mark.parametrize("spoil", [without, with_another_signature, with_another_meaning])
def test_a_torch_with_other_operators_runs_the_plain_layers(operators: SimpleNamespace, spoil: Any) -> None:
    spoil(operators)
    plain = random_unet(CONFIG)
    fast = accelerate(copy.deepcopy(plain))
    assert {type(module) for module in fast.modules()} == {type(module) for module in plain.modules()}
    assert torch.equal(run(fast), run(plain))


@pytest.mark.usefixtures("operators")
def test_trying_the_operators_takes_no_random_numbers() -> None:
    torch.manual_seed(0)
    accelerate(random_unet(CONFIG))
    expected = torch.random.get_rng_state()
    random_unet(CONFIG)
    assert torch.equal(torch.random.get_rng_state(), expected)


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
