"""The paper's networks for 32x32 images.

Source: Wang et al. (arXiv 1704.06904), section 4.1, whose layers were not published: this form, three stages
of 64, 128 and 256 channels with masks of 3, 2 and 1 poolings, two plain units a stage and m modules each, is
the one whose parameter counts are the paper's. Its depth is 36 m + 20 layers in stem, trunk and classifier.
"""

from functools import partial
from typing import Any, Literal

from timm.models import generate_default_cfgs
from torch import nn

from resattn.models.network import ClassifierHead, ResidualAttentionNetwork
from resattn.models.registry import build_network, default_cfg, normalization, register_variant
from resattn.models.residual_units import PreActivationBottleneck, convolution
from resattn.models.soft_mask import MaskActivation, MaskStructure, Upsampling
from resattn.models.stages import Learning, ModuleDesign, Stage

WIDTHS = (64, 128, 256)
STRIDES = (1, 2, 2)
MASK_DEPTHS = (3, 2, 1)
STEM_WIDTH = 16


def cifar_network(
    *,
    modules: int,
    num_classes: int = 10,
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

    `modules` is the paper's m, the attention modules in each stage. The other options are those of
    `ModuleDesign`, with the paper's values as defaults.
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
    for width, stride, depth in zip(WIDTHS, STRIDES, MASK_DEPTHS, strict=True):
        stage = Stage(
            unit=PreActivationBottleneck,
            width=width,
            stride=stride,
            plain_units=2,
            modules=modules,
            mask_depth=depth,
        )
        stages.append(stage.build(before, design))
        before = width
    return ResidualAttentionNetwork(
        stem=nn.Sequential(
            convolution(in_chans, STEM_WIDTH, 3), nn.BatchNorm2d(STEM_WIDTH), nn.ReLU(inplace=True)
        ),
        stages=stages,
        head=ClassifierHead(
            in_features=before, num_classes=num_classes, norm=nn.BatchNorm2d(before), drop_rate=drop_rate
        ),
        num_features=before,
        **normalization(in_chans),
    )


_CFG = default_cfg(
    input_size=32, num_classes=10, pool_size=8, first_conv="stem.0", paper_ids="arXiv:1704.06904"
)

default_cfgs = generate_default_cfgs({f"resattn_cifar_{depth}": _CFG for depth in (56, 92, 128, 164, 236)})


@register_variant
def resattn_cifar_56(pretrained: bool = False, **options: Any) -> ResidualAttentionNetwork:
    """Attention-56: 1 module a stage."""
    return build_network(partial(cifar_network, modules=1), "resattn_cifar_56", pretrained, **options)


@register_variant
def resattn_cifar_92(pretrained: bool = False, **options: Any) -> ResidualAttentionNetwork:
    """Attention-92: 2 modules a stage."""
    return build_network(partial(cifar_network, modules=2), "resattn_cifar_92", pretrained, **options)


@register_variant
def resattn_cifar_128(pretrained: bool = False, **options: Any) -> ResidualAttentionNetwork:
    """Attention-128: 3 modules a stage."""
    return build_network(partial(cifar_network, modules=3), "resattn_cifar_128", pretrained, **options)


@register_variant
def resattn_cifar_164(pretrained: bool = False, **options: Any) -> ResidualAttentionNetwork:
    """Attention-164: 4 modules a stage."""
    return build_network(partial(cifar_network, modules=4), "resattn_cifar_164", pretrained, **options)


@register_variant
def resattn_cifar_236(pretrained: bool = False, **options: Any) -> ResidualAttentionNetwork:
    """Attention-236: 6 modules a stage."""
    return build_network(partial(cifar_network, modules=6), "resattn_cifar_236", pretrained, **options)
