"""Parameter groups, optimizers and the learning rate's schedule."""

import math
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from resattn.hardware import Precision
from resattn.training.muon import Muon
from resattn.training.recipe import Optimization

# It reads pixels and has few rows: Muon's reference code leaves it to AdamW. Further units of a stem are Muon's.
FIRST_CONVOLUTION = ("stem.weight", "stem.0.weight")

# Rates that stand and fall at once: from which share of the run, which share of the peak.
PHASES: dict[str, tuple[tuple[float, float], ...]] = {
    "constant": (),
    # Wang et al. 2017, section 4.1: a tenth of the rate after 64,000 and 96,000 of 160,000 steps.
    "drops": ((0.4, 0.1), (0.6, 0.01)),
    # The 2017 study: 1e-3 for the first 10 to 11 of 30 epochs, 3e-5 after them.
    "two-phase": ((0.35, 0.03),),
}


def parameter_groups(network: nn.Module, optimization: Optimization) -> list[dict[str, Any]]:
    """Split the parameters by what may be done to them.

    "hidden": convolution weights but the first (what Muon orthogonalises); "other": the first convolution and the
    linear layers; "free": biases and normalisation, which are never decayed. With `layer_decay` below 1 each of them is
    split again by depth, and `scale` is the group's share of the learning rate: layer_decay to the power of the depth,
    which is 0 for the head, 1 for the last stage, and so on to the stem. "hidden" is split by `blocks`, too: the groups
    of a grouped convolution, which are matrices of their own.
    """
    stages = len(getattr(network, "stages", ()))
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    blocks = {id(convolution.weight): convolution.groups for convolution in convolutions}
    groups: dict[tuple[str, int, int], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        kind = _kind(name, parameter)
        depth = _depth(name, stages) if optimization.layer_decay < 1 else 0
        matrices = blocks.get(id(parameter), 1) if kind == "hidden" else 1
        groups.setdefault((kind, depth, matrices), []).append(parameter)
    order = ("hidden", "other", "free")
    return [
        {
            "name": kind,
            "params": groups[kind, depth, matrices],
            "blocks": matrices,
            "weight_decay": 0.0 if kind == "free" else optimization.weight_decay,
            "scale": optimization.layer_decay**depth,
        }
        for kind, depth, matrices in sorted(groups, key=lambda key: (order.index(key[0]), *key[1:]))
    ]


def _kind(name: str, parameter: nn.Parameter) -> str:
    if parameter.ndim <= 1:
        return "free"
    hidden = parameter.ndim == 4 and name not in FIRST_CONVOLUTION and min(parameter.shape[:2]) > 1
    return "hidden" if hidden else "other"


def _depth(name: str, stages: int) -> int:
    """Stages between a parameter and the network's end: 0 in the head, `stages` + 1 in the stem."""
    part, *rest = name.split(".")
    return {"stages": stages - int(rest[0]) if part == "stages" else 0, "stem": stages + 1}.get(part, 0)


def make_optimizer(
    network: nn.Module, optimization: Optimization, *, products: Precision = "fp32"
) -> torch.optim.Optimizer:
    """The optimizer a recipe names, over all parameters of the network.

    Muon (Jordan et al. 2024) orthogonalises the momentum of the hidden convolutions, each flattened to a matrix (a
    grouped one to as many as it has groups); all else goes to AdamW at `rest_lr`, as in the method's reference code.
    `products` is the number format of Muon's large matrix products.
    """
    groups = parameter_groups(network, optimization)
    lr, momentum = optimization.lr, optimization.momentum
    for group in groups:
        group["orthogonalize"] = optimization.optimizer == "muon" and group["name"] == "hidden"
        left_to_adamw = optimization.optimizer == "muon" and not group["orthogonalize"]
        group["lr"] = group.pop("scale") * (optimization.rest_lr if left_to_adamw else lr)
    if optimization.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=momentum > 0)
    if optimization.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=lr, betas=(momentum, optimization.beta2), eps=1e-7)
    return Muon(groups, lr=lr, momentum=momentum, iterations=optimization.muon_iterations, products=products)


def schedule_factor(optimization: Optimization, step: int, steps: int) -> float:
    """The learning rate of step `step` (from 0) of `steps`, as a share of its peak."""
    warmup = optimization.warmup * steps
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if optimization.schedule in PHASES:
        return min(
            (share for place, share in PHASES[optimization.schedule] if step >= place * steps), default=1.0
        )
    progress = (step - warmup) / max(steps - warmup, 1e-9)
    if optimization.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    return max(1 - progress, 0.0)


def make_schedule(
    optimizer: torch.optim.Optimizer, optimization: Optimization, steps: int, *, head_steps: int = 0
) -> LambdaLR:
    """A scheduler to be stepped once an optimizer step.

    The first `head_steps`, in which the classifier learns alone, have the schedule for themselves; the rest begins it
    anew, because it moves weights that stood still.
    """

    def factor(step: int) -> float:
        if step < head_steps:
            return schedule_factor(optimization, step, head_steps)
        return schedule_factor(optimization, step - head_steps, steps - head_steps)

    return LambdaLR(optimizer, factor)
