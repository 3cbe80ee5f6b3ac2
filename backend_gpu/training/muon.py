"""The Muon optimiser (Jordan et al. 2024) for matrices and convolutions: momentum, made orthogonal."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import Tensor

from backend_gpu.training.device import has_bfloat16

MOMENTUM = 0.95
WEIGHT_DECAY = 0.05
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # the quintic that Jordan et al. tuned
NEWTON_SCHULZ_STEPS = 5


class Muon(torch.optim.Optimizer):
    """SGD with momentum whose updates have all singular values near one.

    torch.optim.Muon takes two-dimensional parameters only. Here a convolution counts as a matrix of its outputs by
    everything else, and those of equal shape are made orthogonal as one batch.
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float) -> None:
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]  # no closure
        """Update every parameter from its gradient."""
        for group in self.param_groups:
            alike: defaultdict[torch.Size, list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                alike[parameter.flatten(1).shape].append(parameter)
            for (rows, columns), parameters in alike.items():
                updates = orthogonalized(torch.stack([step.flatten(1) for step in self._nesterov(parameters)]))
                changes = [update.reshape(one.shape) for update, one in zip(updates, parameters, strict=True)]
                torch._foreach_mul_(parameters, 1 - group["lr"] * WEIGHT_DECAY)
                torch._foreach_add_(parameters, changes, alpha=-group["lr"] * max(1.0, rows / columns) ** 0.5)

    def _nesterov(self, parameters: Sequence[Tensor]) -> Sequence[Tensor]:
        """The running means of the gradients, updated, and a step ahead."""
        states = [self.state[parameter] for parameter in parameters]
        for state, parameter in zip(states, parameters, strict=True):
            if "momentum" not in state:
                state["momentum"] = torch.zeros_like(parameter)
        momenta = [state["momentum"] for state in states]
        gradients = [cast(Tensor, parameter.grad) for parameter in parameters]
        torch._foreach_lerp_(momenta, gradients, 1 - MOMENTUM)
        return torch._foreach_lerp(gradients, momenta, MOMENTUM)


def orthogonalized(matrices: Tensor) -> Tensor:
    """The nearest (semi-)orthogonal matrices to these (N, rows, columns), roughly, by a Newton-Schulz iteration."""
    a, b, c = NEWTON_SCHULZ
    x = matrices.bfloat16() if has_bfloat16(matrices.device) else matrices
    is_tall = x.shape[1] > x.shape[2]
    if is_tall:
        x = x.mT
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if is_tall else x).to(matrices.dtype)
