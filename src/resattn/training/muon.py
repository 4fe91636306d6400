"""Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon) with a cheap Newton-Schulz iteration; AdamW beside it.

Orthogonalising a momentum matrix X (m x n, m <= n) applies the polynomial X <- (aI + bXX' + c(XX')^2) X five times.
The factors are polynomials of one symmetric matrix and commute, so the iteration can run on the small Gram matrix
G = XX' (m x m) and touch X twice: to form G, and at the end. For the 256 x 2304 matrices of a 3x3 convolution that is
a third of the multiplications. The iteration needs float32: squared singular values would use up all of bfloat16's
digits. The two products with X may be computed in bfloat16, twice as fast where the machine has it.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from resattn.hardware import Precision

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5
EPSILON = 1e-7
# Half the distance between 1 and the next bfloat16.
_BF16_ROUNDING = 2**-8


def orthogonalize(matrices: Tensor, *, iterations: int = ITERATIONS) -> Tensor:
    """Push the singular values of each matrix towards 1 (to 0.7 ... 1.2, as Muon does); B x m x n, float32."""
    if matrices.shape[1] > matrices.shape[2]:
        return orthogonalize(matrices.mT, iterations=iterations).mT
    return orthogonalizers(matrices @ matrices.mT, iterations=iterations) @ matrices


def orthogonalizers(grams: Tensor, *, iterations: int = ITERATIONS) -> Tensor:
    """What to multiply matrices X of m rows with from the left to orthogonalise them, given their XX'; B x m x m.

    Fewer `iterations` leave small singular values smaller. `grams` in bfloat16 are made safe to iterate on: rounding
    can push their small eigenvalues below zero, where the polynomial grows without bound.
    """
    a, b, c = COEFFICIENTS
    if grams.dtype == torch.bfloat16:
        grams = grams.float()
        rounding = _BF16_ROUNDING / grams.shape[-1] ** 0.5
        grams.diagonal(dim1=1, dim2=2).add_(rounding * grams.diagonal(dim1=1, dim2=2).sum(1, keepdim=True))
    # The trace of XX' is the square of X's norm.
    scale = 1 / (grams.diagonal(dim1=1, dim2=2).sum(1).clamp_min(0).sqrt() + EPSILON)[:, None, None]
    grams = grams * scale**2
    factors = scale
    for iteration in range(iterations):
        step = torch.baddbmm(grams, grams, grams, beta=b, alpha=c)
        step.diagonal(dim1=1, dim2=2).add_(a)
        factors = step @ factors if iteration else step * factors
        if iteration < iterations - 1:
            grams = step @ grams @ step
    return factors


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov momentum for parameter groups with `orthogonalize`, AdamW for the others.

    Weights of more than two dimensions are read as (first dimension) x (all others); in a parameter group with `blocks`
    above 1 they are cut into as many along the first dimension, for a convolution in groups is a matrix for each group.
    An update is scaled by sqrt(max(1, rows / columns)), as in the method's reference code; weight decay is decoupled.
    `iterations` are Newton and Schulz's, `products` the number format of the products with whole updates; `betas` and
    `eps` are AdamW's.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        *,
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.99),
        eps: float = 1e-8,
        iterations: int = ITERATIONS,
        products: Precision = "fp32",
    ) -> None:
        self.iterations = iterations
        self.dtype = torch.bfloat16 if products == "bf16" else torch.float32
        super().__init__(
            groups,
            {
                "lr": lr,
                "momentum": momentum,
                "weight_decay": weight_decay,
                "betas": betas,
                "eps": eps,
                "orthogonalize": False,
                "blocks": 1,
            },
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore `state`; checkpoints of before there were blocks have whole weights."""
        super().__setstate__(state)
        for group in self.param_groups:
            group.setdefault("blocks", 1)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of every parameter that has a gradient; returns what `closure` returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if parameters:
                (self._muon if group["orthogonalize"] else self._adamw)(parameters, group)
        return loss

    def _muon(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        gradients = [cast(Tensor, parameter.grad) for parameter in parameters]
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter]["momentum"] = torch.zeros_like(parameter)
        momenta = [self.state[parameter]["momentum"] for parameter in parameters]
        torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
        ahead = torch._foreach_lerp(momenta, gradients, 1 - group["momentum"])
        wide = [_wide(update, group["blocks"]).to(self.dtype) for update in ahead]
        alike: dict[int, list[int]] = defaultdict(list)
        for place, matrix in enumerate(wide):
            alike[matrix.shape[-2]].append(place)
        kept = 1 - group["lr"] * group["weight_decay"]
        for places in alike.values():
            grams = torch.stack([wide[place] @ wide[place].mT for place in places])
            factors_of_all = orthogonalizers(grams.flatten(0, -3), iterations=self.iterations).to(self.dtype)
            for place, factors in zip(places, factors_of_all.view(grams.shape), strict=True):
                rows, columns = _matrix(parameters[place], group["blocks"]).shape[-2:]
                rate = group["lr"] * max(1.0, rows / columns) ** 0.5
                weight = _wide(parameters[place], group["blocks"])
                if self.dtype == weight.dtype and weight.dim() == 2:
                    # Decay and update in the pass that multiplies: all else here is spent on reading and writing.
                    weight.addmm_(factors, wide[place], beta=kept, alpha=-rate)
                else:
                    weight.mul_(kept).add_(factors @ wide[place], alpha=-rate)

    def _adamw(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter] = {
                    "step": torch.zeros(()),
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter),
                }
        states = [self.state[parameter] for parameter in parameters]
        adamw(
            parameters,
            [cast(Tensor, parameter.grad) for parameter in parameters],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            foreach=True,
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )


def _matrix(weight: Tensor, blocks: int) -> Tensor:
    """A view as (first dimension) x (all others), in the order in which they lie in memory, which no XX' depends on.

    With `blocks` above 1: blocks x (share of the first dimension) x (all others). Raises RuntimeError for a weight that
    is neither contiguous nor channels-last.
    """
    channels_last = weight.dim() == 4 and weight.is_contiguous(memory_format=torch.channels_last)
    shape = (len(weight), -1) if blocks == 1 else (blocks, len(weight) // blocks, -1)
    return (weight.permute(0, 2, 3, 1) if channels_last else weight).view(shape)


def _wide(weight: Tensor, blocks: int) -> Tensor:
    """The view of `_matrix`, transposed where it has more rows than columns."""
    matrix = _matrix(weight, blocks)
    return matrix.mT if matrix.shape[-2] > matrix.shape[-1] else matrix
