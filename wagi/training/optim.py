"""Ranger (RAdam + Lookahead + gradient centralisation), the optimiser of e4e and HFGI, version 20.4.11."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer


class Ranger(Optimizer):
    """Liu et al. 2019 (RAdam), Zhang et al. 2019 (Lookahead), Yong et al. 2020 (gradient centralisation).

    `betas` and `eps` default to the public version's; the slow weights start at the first step's values.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.95, 0.999),
        eps: float = 1e-5,
        lookahead_steps: int = 6,
        lookahead_alpha: float = 0.5,
        threshold: float = 5.0,
    ) -> None:
        defaults = dict(
            lr=lr, betas=betas, eps=eps, k=lookahead_steps, alpha=lookahead_alpha, threshold=threshold
        )
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        assert closure is None
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._update(p, p.grad, group)

    def _update(self, p: Tensor, grad: Tensor, group: dict) -> None:
        state = self.state[p]
        if not state:
            state["step"] = 0
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(p), torch.zeros_like(p)
            state["slow"] = p.clone()
        if grad.ndim > 1:  # gradient centralisation
            grad = grad - grad.mean(dim=tuple(range(1, grad.ndim)), keepdim=True)
        beta1, beta2 = group["betas"]
        state["step"] += 1
        state["exp_avg"].lerp_(grad, 1 - beta1)
        state["exp_avg_sq"].mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        rectification = self._rectification(state["step"], beta2, group["threshold"])
        step_size = group["lr"] / (1 - beta1 ** state["step"])
        if rectification is None:
            p.add_(state["exp_avg"], alpha=-step_size)
        else:
            denominator = state["exp_avg_sq"].sqrt().add_(group["eps"])
            p.addcdiv_(state["exp_avg"], denominator, value=-step_size * rectification)
        if state["step"] % group["k"] == 0:
            state["slow"].lerp_(p, group["alpha"])
            p.copy_(state["slow"])

    @staticmethod
    def _rectification(step: int, beta2: float, threshold: float) -> float | None:
        """RAdam's rectification with its bias correction; None while the variance is not tractable."""
        decay = beta2**step
        n_max = 2 / (1 - beta2) - 1
        n = n_max - 2 * step * decay / (1 - decay)
        if n <= threshold:
            return None
        return math.sqrt((1 - decay) * (n - 4) / (n_max - 4) * (n - 2) / n * n_max / (n_max - 2))


def make_optimizer(
    name: str, groups: list[dict], lr: float, betas: tuple[float, float] = (0.9, 0.99)
) -> Optimizer:
    """`groups` are parameter groups, each with an optional rate of its own; `betas` apply to Adam only."""
    optimizer: Optimizer = (
        Ranger(groups, lr) if name == "ranger" else Adam(groups, lr, betas=betas, fused=True)
    )
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    return optimizer
