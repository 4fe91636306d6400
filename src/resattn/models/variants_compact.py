"""The compact family for 64x64 images, which trains on a laptop, and its controls of equal cost.

A strided 4x4 stem, then three stages of two pre-activation basic units: the first changes width and
resolution, the second is the trunk. A mask sits on the first and second stage, where the feature maps are
16x16 and 8x8: there it costs under 2 % of the network's multiply-accumulates. No unit works at the stem's
32x32: there a CPU spends its time moving activations (docs/experiment-log.md). The controls are the same
frame without masks, and with squeeze-and-excitation units for trunks where there were masks.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal, get_args

from timm.models import generate_default_cfgs
from torch import nn

from resattn.models.attention_module import AttentionModule
from resattn.models.compact_mask import CompactActivation, CompactMask
from resattn.models.inception_units import InceptionResNetA, InceptionResNetB, InceptionResNetC
from resattn.models.network import ClassifierHead, ResidualAttentionNetwork
from resattn.models.registry import build_network, default_cfg, normalization, register_variant
from resattn.models.residual_units import (
    PreActivationBasic,
    PreActivationBottleneck,
    ResNeXtUnit,
    UnitFactory,
)
from resattn.models.squeeze_excitation import SqueezeExcitation

MINI = (64, 128, 256)
SMALL = (128, 256, 512)

Attention = Literal["compact", "squeeze_excitation", "none"]
Learning = Literal["residual", "naive", "none"]
Unit = Literal["basic", "bottleneck", "resnext", "inception_resnet"]
# By stage, and how many times the basic unit's channels a unit takes to cost as much as it (He et al. 2016, table 1).
UNITS: Mapping[Unit, tuple[tuple[UnitFactory, ...], int]] = {
    "basic": ((PreActivationBasic,) * 3, 1),
    "bottleneck": ((PreActivationBottleneck,) * 3, 4),
    "resnext": ((ResNeXtUnit,) * 3, 4),
    "inception_resnet": ((InceptionResNetA, InceptionResNetB, InceptionResNetC), 4),
}


def compact_network(
    *,
    widths: Sequence[int],
    attention: Attention,
    num_classes: int = 200,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    learning: Learning = "residual",
    masked_stages: Sequence[int] | int = (1, 2),
    unit: Unit = "basic",
    width_scale: float = 1.0,
    trunk_units: int = 1,
    stem_width: int = 32,
    stem_units: int = 0,
    mask_width: int = 32,
    mask_depth: int = 2,
    mask_activation: CompactActivation = "sigmoid",
) -> ResidualAttentionNetwork:
    """The frame of the family.

    `widths` are the stages' channels, times `width_scale`, and `stem_width` the stem's, behind whose convolution
    come `stem_units` units of as many channels, at 32x32; `trunk_units` are the units of each stage's trunk.
    `attention` is the kind of attention, and `masked_stages` says which stages (from 1) have it; `mask_width`,
    `mask_depth` and `mask_activation` are the compact masks' channels, scales and activation. Squeeze-and-excitation is
    no mask: it weights the residual of the trunk's units, which must be basic ones, and is not learnt naively.
    `learning` "none" leaves all attention out. Another `unit` has four times the channels, which costs about as many
    multiply-accumulates. Raises ValueError for what is not there or does not go together, and widths of no channels.
    """
    if learning not in get_args(Learning):
        raise ValueError(f"learning must be one of {get_args(Learning)}, not {learning!r}")
    if unit not in UNITS:
        raise ValueError(f"unit must be one of {tuple(UNITS)}, not {unit!r}")
    units, factor = UNITS[unit]
    widths = [round(factor * width * width_scale) for width in widths]
    _require_channels(width_scale=min(widths), stem_width=stem_width, mask_width=mask_width)
    if trunk_units < 1 or stem_units < 0:
        raise ValueError(
            f"trunk_units must be 1 or more and stem_units 0, not {trunk_units} and {stem_units}"
        )
    attention = "none" if learning == "none" else attention
    masked = () if attention == "none" else _stage_numbers(masked_stages, stages=len(widths))
    if attention == "squeeze_excitation":
        _require_gated_units(unit, learning)
    mask = partial(CompactMask, width=mask_width, depth=mask_depth, activation=mask_activation)
    stem = _strided_stem(in_chans, stem_width, activated=units[0].activates_output)
    stem.extend(units[0](stem_width, stem_width, 1) for _ in range(stem_units))
    stages = []
    before = stem_width
    for i, (width, residual_unit) in enumerate(zip(widths, units, strict=True), start=1):
        here = attention if i in masked else "none"
        in_trunk = _squeeze_excitation_unit if here == "squeeze_excitation" else residual_unit
        module = AttentionModule(
            pre=residual_unit(before, width, 2),
            trunk=_in_a_row([in_trunk(width, width, 1) for _ in range(trunk_units)]),
            mask=mask(width) if here == "compact" else None,
            post=nn.Identity(),
            learning="naive" if learning == "naive" else "residual",
        )
        stages.append([module])
        before = width
    norm = None if units[-1].activates_output else nn.BatchNorm2d(before)
    return ResidualAttentionNetwork(
        stem=stem,
        stages=stages,
        head=ClassifierHead(in_features=before, num_classes=num_classes, norm=norm, drop_rate=drop_rate),
        num_features=before,
        **normalization(in_chans),
    )


def _require_channels(**channels: int) -> None:
    for option, narrowest in channels.items():
        if narrowest < 1:
            raise ValueError(f"{option} leaves no channels")


def _stage_numbers(masked_stages: Sequence[int] | int, *, stages: int) -> tuple[int, ...]:
    """The numbers as a tuple: a command line cannot tell one number from a list of one."""
    numbers = (masked_stages,) if isinstance(masked_stages, int) else tuple(masked_stages)
    if not set(numbers) <= set(range(1, stages + 1)):
        raise ValueError(f"masked_stages {numbers} must be of 1 ... {stages}")
    return numbers


def _require_gated_units(unit: Unit, learning: str) -> None:
    if unit != "basic":
        raise ValueError(f"unit must be 'basic' with squeeze-and-excitation, not {unit!r}")
    if learning == "naive":
        raise ValueError("learning cannot be 'naive' with squeeze-and-excitation: there is no mask to learn")


def _squeeze_excitation_unit(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    return PreActivationBasic(in_channels, out_channels, stride, gate=SqueezeExcitation(out_channels))


def _in_a_row(units: Sequence[nn.Module]) -> nn.Module:
    return units[0] if len(units) == 1 else nn.Sequential(*units)


def _strided_stem(in_chans: int, width: int, *, activated: bool) -> nn.Sequential:
    """One 4x4 convolution of stride 2: 64x64 images to 32x32 features; `activated`, with a BN-ReLU behind it."""
    conv = nn.Conv2d(in_chans, width, 4, 2, 1, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return (
        nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU(inplace=True))
        if activated
        else nn.Sequential(conv)
    )


_CFG = default_cfg(input_size=64, num_classes=200, pool_size=4, first_conv="stem.0")

default_cfgs = generate_default_cfgs(
    {f"resattn_{size}{control}": _CFG for control in ("", "_plain", "_se") for size in ("mini", "small")}
)


@register_variant
def resattn_mini(pretrained: bool = False, **options: Any) -> ResidualAttentionNetwork:
    """Widths 64-128-256, masks on the first and second stage."""
    frame = partial(compact_network, widths=MINI, attention="compact")
    return build_network(frame, "resattn_mini", pretrained, **options)


@register_variant
def resattn_small(pretrained: bool = False, **options: Any) -> ResidualAttentionNetwork:
    """Widths 128-256-512, masks on the first and second stage."""
    frame = partial(compact_network, widths=SMALL, attention="compact")
    return build_network(frame, "resattn_small", pretrained, **options)


@register_variant
def resattn_mini_plain(pretrained: bool = False, **options: Any) -> ResidualAttentionNetwork:
    """The frame of resattn_mini without masks: its control."""
    frame = partial(compact_network, widths=MINI, attention="none", learning="none")
    return build_network(frame, "resattn_mini_plain", pretrained, **options)


@register_variant
def resattn_small_plain(pretrained: bool = False, **options: Any) -> ResidualAttentionNetwork:
    """The frame of resattn_small without masks: its control."""
    frame = partial(compact_network, widths=SMALL, attention="none", learning="none")
    return build_network(frame, "resattn_small_plain", pretrained, **options)


@register_variant
def resattn_mini_se(pretrained: bool = False, **options: Any) -> ResidualAttentionNetwork:
    """The frame of resattn_mini with squeeze-and-excitation units where it has masks: its other control."""
    frame = partial(compact_network, widths=MINI, attention="squeeze_excitation")
    return build_network(frame, "resattn_mini_se", pretrained, **options)


@register_variant
def resattn_small_se(pretrained: bool = False, **options: Any) -> ResidualAttentionNetwork:
    """The frame of resattn_small with squeeze-and-excitation units where it has masks: its other control."""
    frame = partial(compact_network, widths=SMALL, attention="squeeze_excitation")
    return build_network(frame, "resattn_small_se", pretrained, **options)
