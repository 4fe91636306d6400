"""Parameter groups, optimizers and the learning rate's schedule."""

import math
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from resattn.training.muon import Muon
from resattn.training.recipe import Optimization


def parameter_groups(network: nn.Module, optimization: Optimization) -> list[dict[str, Any]]:
    """Split the parameters by what may be done to them.

    "hidden": convolution weights but the first (what Muon orthogonalises); "other": the first convolution and the
    linear layers; "free": biases and normalisation, which are never decayed.
    """
    hidden, other, free = [], [], []
    for name, parameter in network.named_parameters():
        if parameter.ndim <= 1:
            free.append(parameter)
        elif parameter.ndim == 4 and not name.startswith("stem.") and min(parameter.shape[:2]) > 1:
            hidden.append(parameter)
        else:
            other.append(parameter)
    decay = optimization.weight_decay
    groups = [
        {"name": "hidden", "params": hidden, "weight_decay": decay},
        {"name": "other", "params": other, "weight_decay": decay},
        {"name": "free", "params": free, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def make_optimizer(network: nn.Module, optimization: Optimization) -> torch.optim.Optimizer:
    """The optimizer a recipe names, over all parameters of the network.

    Muon (Jordan et al. 2024) orthogonalises the momentum of the hidden convolutions, each flattened to a matrix; all
    else goes to AdamW at `rest_lr`, as in the method's reference code.
    """
    groups = parameter_groups(network, optimization)
    lr, momentum = optimization.lr, optimization.momentum
    if optimization.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=momentum > 0)
    if optimization.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=lr, betas=(momentum, 0.99), eps=1e-7)
    for group in groups:
        group["orthogonalize"] = group["name"] == "hidden"
        if not group["orthogonalize"]:
            group["lr"] = optimization.rest_lr
    return Muon(groups, lr=lr, momentum=momentum)


def schedule_factor(optimization: Optimization, step: int, steps: int) -> float:
    """The learning rate of step `step` (from 0) of `steps`, as a share of its peak."""
    warmup = optimization.warmup * steps
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if optimization.schedule == "constant":
        return 1.0
    progress = (step - warmup) / max(steps - warmup, 1e-9)
    if optimization.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    return max(1 - progress, 0.0)


def make_schedule(optimizer: torch.optim.Optimizer, optimization: Optimization, steps: int) -> LambdaLR:
    """A scheduler to be stepped once an optimizer step."""
    return LambdaLR(optimizer, lambda step: schedule_factor(optimization, step, steps))
