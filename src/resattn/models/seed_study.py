"""The five networks of the 2017 study, as they were, without their bugs.

Source: "Residual Attention Networks for Image Classification" (Stanford CS231n, 2017), a TensorFlow 1 program
for Tiny ImageNet: 200 classes, 64 x 64. TensorFlow's defaults are kept: every convolution and dense layer has
a bias (zero at first) and Glorot-uniform weights, batch normalisation has epsilon 1e-3 and forgets 1 % a
step, masks are enlarged by TensorFlow's own bilinear rule. Convolutions pad to keep their size ("SAME"), but
those with stride 2 and all poolings do not pad ("VALID"), so that TensorFlow's lopsided padding of strided
layers never occurs.

Departures: dropout is applied (the study computed it and went past it); the two 1x1 convolutions of the third
network whose outputs nobody read are left out (125,832 parameters); the last pooling is global, which at 64 x
64 is the study's fixed window and works at any size; the study subtracted the mean *image* of its training
data, these networks subtract ImageNet's mean *colour*, on the same scale of 0 to 255.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

from timm.models import generate_default_cfgs
from torch import nn

from resattn.models.attention_module import AttentionModule
from resattn.models.network import ClassifierHead, ResidualAttentionNetwork
from resattn.models.registry import build_network, default_cfg, normalization, register_variant
from resattn.models.seed_units import (
    SeedDownUnit,
    SeedMask,
    SeedReduction,
    SeedResidualInception,
    SeedUnit,
    seed_convolution,
)


def _plain(*trunk: nn.Module, pre: nn.Module | None = None) -> list[AttentionModule]:
    """A stage without attention."""
    return [
        AttentionModule(pre=pre or nn.Identity(), trunk=nn.Sequential(*trunk), mask=None, post=nn.Identity())
    ]


def _attention(channels: int, mask: nn.Module) -> list[AttentionModule]:
    """The study's attention module: unit, (1 + M) * T with one unit as trunk, unit."""
    unit = partial(SeedUnit, channels)
    return [AttentionModule(pre=unit(), trunk=unit(), mask=mask, post=unit())]


def _initialize(network: nn.Module) -> None:
    """TensorFlow's defaults: Glorot-uniform weights, zero biases."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def _assemble(
    stem: nn.Module, stages: Sequence[list[AttentionModule]], num_features: int, in_chans: int, **head: Any
) -> ResidualAttentionNetwork:
    network = ResidualAttentionNetwork(
        stem=stem,
        stages=stages,
        head=ClassifierHead(in_features=num_features, **head),
        num_features=num_features,
        mean=normalization(in_chans)["mean"],
        std=(1 / 255,) * in_chans,  # from [0, 1] to the study's 0..255 about its mean
    )
    _initialize(network)
    return network


def simple_residual(
    *, num_classes: int = 200, in_chans: int = 3, drop_rate: float = 0.0, hidden_features: int | None = None
) -> ResidualAttentionNetwork:
    """The study's simple residual network: no attention, four stages of 64, 128, 256 and 512 channels.

    7x7 convolution; three times three units and a down unit; two units; average; classifier. The study's
    second form has `hidden_features=1000`: one more linear layer before the classifier. Any size from 8 x 8
    up.
    """
    stages = [_plain(*(SeedUnit(64) for _ in range(3)))]
    for width, units in ((128, 3), (256, 3), (512, 2)):
        stages.append(_plain(*(SeedUnit(width) for _ in range(units)), pre=SeedDownUnit(width // 2, width)))
    head = {"num_classes": num_classes, "drop_rate": drop_rate, "hidden_features": hidden_features}
    return _assemble(seed_convolution(in_chans, 64, 7), stages, 512, in_chans, **head)


def _full_mask(channels: int) -> SeedMask:
    unit = partial(SeedUnit, channels)
    return SeedMask(channels, encoder=(unit(), unit()), decoder=(unit(),))


def _mini_mask(channels: int) -> SeedMask:
    unit = partial(SeedUnit, channels)
    return SeedMask(channels, encoder=(nn.Sequential(unit(), unit()),), decoder=())


def inception(
    *,
    first_stage: Literal["plain", "attention", "mini attention"],
    third_reduction: Literal["none", "to 832"],
    num_classes: int = 200,
    in_chans: int = 3,
    drop_rate: float = 0.3,
    hidden_features: int | None = 1000,
) -> ResidualAttentionNetwork:
    """The study's inception networks: stages of 64, 128 and 320 channels between inception reductions.

    3x3 convolution; two units or an attention module; reduction, two units; reduction, one residual inception
    module; for "to 832" one more reduction; average; dropout; a linear layer of `hidden_features`;
    classifier. Any size from 7 x 7 up, from 15 x 15 with the third reduction. A version binds the first two
    arguments; they are no options of it.
    """
    first: dict[str, Callable[[], list[AttentionModule]]] = {
        "plain": lambda: _plain(SeedUnit(64), SeedUnit(64)),
        "attention": lambda: _attention(64, _full_mask(64)),
        "mini attention": lambda: _attention(64, _mini_mask(64)),
    }
    reduction_a = SeedReduction(
        64, 32, lead_width=32, lead=(seed_convolution(64, 32, 1), seed_convolution(32, 32, 3))
    )
    reduction_b = SeedReduction(128, 96, lead_width=96, lead=(seed_convolution(128, 96, 3),))
    stages = [
        first[first_stage](),
        _plain(SeedUnit(128), SeedUnit(128), pre=reduction_a),
        _plain(SeedResidualInception(320), pre=reduction_b),
    ]
    if third_reduction == "to 832":
        # The study also ran two 1x1 convolutions of 196 channels here and dropped what they made.
        reduction_c = SeedReduction(320, 256, lead_width=196, lead=(seed_convolution(320, 196, 3),))
        stages.append(_plain(pre=reduction_c))
    features = 832 if third_reduction == "to 832" else 320
    head = {"num_classes": num_classes, "drop_rate": drop_rate, "hidden_features": hidden_features}
    return _assemble(seed_convolution(in_chans, 64, 3), stages, features, in_chans, **head)


def _cfg(pool_size: int, smallest: int) -> dict[str, Any]:
    return default_cfg(
        input_size=64,
        num_classes=200,
        pool_size=pool_size,
        first_conv="stem",
        min_input_size=(3, smallest, smallest),
    )


default_cfgs = generate_default_cfgs(
    {
        "seed_residual": _cfg(8, 8),
        "seed_inception": _cfg(15, 7),
        "seed_inception_attention_v2": _cfg(15, 7),
        "seed_inception_attention_v3": _cfg(7, 15),
        "seed_inception_attention_v4": _cfg(15, 7),
    }
)


@register_variant
def seed_residual(pretrained: bool = False, **options: Any) -> ResidualAttentionNetwork:
    """The study's simple residual network; options of `simple_residual`."""
    return build_network(simple_residual, "seed_residual", pretrained, **options)


@register_variant
def seed_inception(pretrained: bool = False, **options: Any) -> ResidualAttentionNetwork:
    """The study's inception network, first version: no attention."""
    constructor = partial(inception, first_stage="plain", third_reduction="none")
    return build_network(constructor, "seed_inception", pretrained, **options)


@register_variant
def seed_inception_attention_v2(pretrained: bool = False, **options: Any) -> ResidualAttentionNetwork:
    """The study's inception network, second version: an attention module in the first stage."""
    constructor = partial(inception, first_stage="attention", third_reduction="none")
    return build_network(constructor, "seed_inception_attention_v2", pretrained, **options)


@register_variant
def seed_inception_attention_v3(pretrained: bool = False, **options: Any) -> ResidualAttentionNetwork:
    """The study's inception network, third version: the second with a third reduction, to 7 x 7 x 832."""
    constructor = partial(inception, first_stage="attention", third_reduction="to 832")
    return build_network(constructor, "seed_inception_attention_v3", pretrained, **options)


@register_variant
def seed_inception_attention_v4(pretrained: bool = False, **options: Any) -> ResidualAttentionNetwork:
    """The study's inception network, fourth version: the second with the mini attention module."""
    constructor = partial(inception, first_stage="mini attention", third_reduction="none")
    return build_network(constructor, "seed_inception_attention_v4", pretrained, **options)
