import copy

import pytest
import torch
from torch import Tensor

from backend_gpu.training.muon import MOMENTUM, WEIGHT_DECAY, Muon, orthogonalized

RATE = 0.1


def singular_values(matrix: Tensor) -> Tensor:
    values: Tensor = torch.linalg.svdvals(matrix.double())
    return values


@pytest.mark.parametrize("shape", [(12, 48), (48, 12), (24, 24)])
@pytest.mark.parametrize("size", [1e-4, 1.0, 1e4])
def test_a_matrix_becomes_nearly_orthogonal_and_keeps_its_directions(shape: tuple[int, int], size: float) -> None:
    matrix = size * torch.randn(shape, generator=torch.Generator().manual_seed(0))
    result, alone = orthogonalized(torch.stack([matrix, -matrix]))[0], orthogonalized(matrix[None])[0]
    torch.testing.assert_close(result, alone)
    values = singular_values(result)
    assert values.min() > 0.5  # the quintic's constants trade precision for speed: near one means 0.68 to 1.13
    assert values.max() < 1.3
    left, _, right = torch.linalg.svd(matrix.double(), full_matrices=False)
    alignment = (result.double() * (left @ right)).sum() / (result.double().norm() * len(values) ** 0.5)
    assert alignment > 0.97


@pytest.mark.parametrize(("shape", "length"), [((8, 2, 3, 3), 1.0), ((32, 8), 2.0), ((8, 32), 1.0)])
def test_the_first_update_of_a_weight_has_singular_values_near_its_length(
    shape: tuple[int, ...], length: float
) -> None:
    generator = torch.Generator().manual_seed(1)
    weight = torch.nn.Parameter(torch.randn(shape, generator=generator))
    before = weight.detach().clone()
    weight.grad = torch.randn(shape, generator=generator) * 1e-3
    Muon([weight], RATE).step()
    update = (before * (1 - RATE * WEIGHT_DECAY) - weight.detach()).flatten(1) / RATE
    values = singular_values(update) / length  # sqrt(rows / columns) where there are more rows
    assert values.min() > 0.5
    assert values.max() < 1.3
    assert (update * weight.grad.flatten(1)).sum() > 0  # downhill


def test_the_momentum_is_the_running_mean_of_the_gradients() -> None:
    weight = torch.nn.Parameter(torch.zeros(4, 4))
    muon = Muon([weight], RATE)
    generator = torch.Generator().manual_seed(2)
    expected = torch.zeros(4, 4, dtype=torch.float64)
    for _ in range(4):
        weight.grad = torch.randn(4, 4, generator=generator)
        expected = MOMENTUM * expected + (1 - MOMENTUM) * weight.grad.double()
        muon.step()
    torch.testing.assert_close(muon.state[weight]["momentum"].double(), expected, atol=1e-6, rtol=0)


def weights_of(*shapes: tuple[int, ...]) -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(4)
    weights = [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]
    for weight in weights:
        weight.grad = torch.randn(weight.shape, generator=generator)
    return weights


def test_weights_of_equal_shape_are_updated_as_each_would_be_alone() -> None:
    shapes = [(8, 18), (8, 2, 3, 3), (18, 8), (8, 2, 3, 3), (18, 8)]  # (8, 2, 3, 3) is a matrix of (8, 18)
    together, alone = weights_of(*shapes), weights_of(*shapes)
    together[1].data = together[1].data.contiguous(memory_format=torch.channels_last)
    muons = [Muon(together, RATE), *(Muon([weight], RATE) for weight in alone)]
    for _ in range(2):
        for muon in muons:
            muon.step()
    for weight, its in zip(together, alone, strict=True):
        torch.testing.assert_close(weight, its, atol=2e-3, rtol=0)  # bfloat16 rounds by some 0.01 of a rate of 0.1


def test_matrices_of_equal_shape_are_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[tuple[int, ...]] = []

    def noted(matrices: Tensor) -> Tensor:
        batches.append(tuple(matrices.shape))
        return matrices

    monkeypatch.setattr("backend_gpu.training.muon.orthogonalized", noted)
    Muon(weights_of((8, 18), (8, 2, 3, 3), (18, 8)), RATE).step()
    assert batches == [(2, 8, 18), (1, 18, 8)]


def test_a_saved_state_goes_on_as_if_it_had_not_stopped() -> None:
    whole = weights_of((8, 18), (8, 2, 3, 3))
    muon = Muon(whole, RATE)
    muon.step()
    resumed = [torch.nn.Parameter(weight.detach().clone()) for weight in whole]
    other = Muon(resumed, 0.0)
    other.load_state_dict(copy.deepcopy(muon.state_dict()))
    for weight, its in zip(whole, resumed, strict=True):
        weight.grad = its.grad = torch.ones_like(weight)
    muon.step()
    other.step()
    for weight, its in zip(whole, resumed, strict=True):
        assert torch.equal(weight, its)


def test_muon_finds_the_matrix_that_a_product_needs() -> None:
    generator = torch.Generator().manual_seed(3)
    inputs, wanted = torch.randn(64, 8, generator=generator), torch.randn(8, 8, generator=generator)
    weight = torch.nn.Parameter(torch.zeros(8, 8))
    muon = Muon([weight], 0.05)
    losses = []
    for _ in range(100):
        weight.grad = None
        loss = (inputs @ (weight - wanted)).square().mean()
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no types for it
        muon.step()
        losses.append(loss.item())
    assert losses[-1] < 0.05 * losses[0]
