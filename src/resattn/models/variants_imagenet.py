"""The paper's networks for 224x224 images: three attention stages between a strided stem and three plain
units.

Source: Wang et al. (arXiv 1704.06904), table 2 and section 4.2, as its authors' deploy files define them. The
layers of resattn_inception_56 were never published: see `inception_units` for its units, and
docs/decisions.md.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

from timm.models import generate_default_cfgs
from torch import nn

from resattn.models.inception_units import InceptionResNetA, InceptionResNetB, InceptionResNetC
from resattn.models.network import ClassifierHead, ResidualAttentionNetwork
from resattn.models.registry import build_network, default_cfg, normalization, register_variant
from resattn.models.residual_units import PreActivationBottleneck, ResNeXtUnit, UnitFactory, convolution
from resattn.models.soft_mask import CeilMaxPool, MaskActivation, MaskStructure, Upsampling
from resattn.models.stages import Learning, ModuleDesign, Stage, plain_stage

WIDTHS = (256, 512, 1024, 2048)
STRIDES = (1, 2, 2, 2)
MASK_DEPTHS = (3, 2, 1)
STEM_WIDTH = 64


def imagenet_network(
    *,
    units: Sequence[UnitFactory],
    modules: Sequence[int],
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    learning: Learning = "residual",
    mask_activation: MaskActivation = "mixed",
    mask_structure: MaskStructure = "encoder_decoder",
    mask_skip: Literal["unit", "none"] = "unit",
    upsampling: Upsampling = "bilinear",
    pre_units: int = 1,
    trunk_units: int = 2,
    mask_units: int = 1,
) -> ResidualAttentionNetwork:
    """Any network of the form.

    `units` are the residual units of the four stages, the last of them plain; `modules` the attention modules
    in each of the first three. The other options are those of `ModuleDesign`, with the paper's values as
    defaults.
    """
    design = ModuleDesign(
        pre_units=pre_units,
        trunk_units=trunk_units,
        mask_units=mask_units,
        learning=learning,
        mask_activation=mask_activation,
        mask_structure=mask_structure,
        mask_skip=mask_skip,
        upsampling=upsampling,
    )
    stages = []
    before = STEM_WIDTH
    for unit, width, stride, count, depth in zip(units, WIDTHS, STRIDES, modules, MASK_DEPTHS, strict=False):
        stage = Stage(unit=unit, width=width, stride=stride, plain_units=1, modules=count, mask_depth=depth)
        stages.append(stage.build(before, design))
        before = width
    last, width = units[-1], WIDTHS[-1]
    stages.append(plain_stage(last, before, width, units=3, stride=STRIDES[-1]))
    norm = None if last.activates_output else nn.BatchNorm2d(width)
    return ResidualAttentionNetwork(
        stem=_stem(in_chans),
        stages=stages,
        head=ClassifierHead(in_features=width, num_classes=num_classes, norm=norm, drop_rate=drop_rate),
        num_features=width,
        **normalization(in_chans),
    )


def _stem(in_chans: int) -> nn.Sequential:
    """7x7 convolution of stride 2, BN, ReLU, max-pool: a quarter of the resolution."""
    return nn.Sequential(
        convolution(in_chans, STEM_WIDTH, 7, 2),
        nn.BatchNorm2d(STEM_WIDTH),
        nn.ReLU(inplace=True),
        CeilMaxPool(),
    )


_PREACT = (PreActivationBottleneck,) * 4
_RESNEXT = (ResNeXtUnit,) * 4
_INCEPTION = (InceptionResNetA, InceptionResNetA, InceptionResNetB, InceptionResNetC)
_DEPTH_56 = (1, 1, 1)
_DEPTH_92 = (1, 2, 3)

_CFG = default_cfg(
    input_size=224, num_classes=1000, pool_size=7, first_conv="stem.0", paper_ids="arXiv:1704.06904"
)

default_cfgs = generate_default_cfgs(
    dict.fromkeys(
        ("resattn_56", "resattn_92", "resattnext_56", "resattnext_92", "resattn_inception_56"), _CFG
    )
)


@register_variant
def resattn_56(pretrained: bool = False, **options: Any) -> ResidualAttentionNetwork:
    """Attention-56: pre-activation bottlenecks, one module a stage."""
    form = partial(imagenet_network, units=_PREACT, modules=_DEPTH_56)
    return build_network(form, "resattn_56", pretrained, **options)


@register_variant
def resattn_92(pretrained: bool = False, **options: Any) -> ResidualAttentionNetwork:
    """Attention-92: pre-activation bottlenecks; one, two and three modules."""
    form = partial(imagenet_network, units=_PREACT, modules=_DEPTH_92)
    return build_network(form, "resattn_92", pretrained, **options)


@register_variant
def resattnext_56(pretrained: bool = False, **options: Any) -> ResidualAttentionNetwork:
    """AttentionNeXt-56: ResNeXt units, one module a stage."""
    form = partial(imagenet_network, units=_RESNEXT, modules=_DEPTH_56)
    return build_network(form, "resattnext_56", pretrained, **options)


@register_variant
def resattnext_92(pretrained: bool = False, **options: Any) -> ResidualAttentionNetwork:
    """AttentionNeXt-92: ResNeXt units; one, two and three modules."""
    form = partial(imagenet_network, units=_RESNEXT, modules=_DEPTH_92)
    return build_network(form, "resattnext_92", pretrained, **options)


@register_variant
def resattn_inception_56(pretrained: bool = False, **options: Any) -> ResidualAttentionNetwork:
    """AttentionInception-56: Inception-ResNet units A, A, B and C by stage, one module a stage."""
    form = partial(imagenet_network, units=_INCEPTION, modules=_DEPTH_56)
    return build_network(form, "resattn_inception_56", pretrained, **options)
