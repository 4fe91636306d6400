"""The stages of the paper's networks: plain residual units, then attention modules with hourglass masks.

Source: Wang et al. (arXiv 1704.06904), section 3.3 and figure 2, as its authors' deploy files define it.
"""

from dataclasses import dataclass
from typing import Literal, get_args

from torch import nn

from resattn.models.attention_module import AttentionModule
from resattn.models.residual_units import UnitFactory
from resattn.models.soft_mask import (
    Hourglass,
    MaskActivation,
    MaskSkip,
    MaskStructure,
    SoftMask,
    Upsampling,
)

Learning = Literal["residual", "naive", "none"]


@dataclass(frozen=True, kw_only=True)
class ModuleDesign:
    """What the attention modules of a network have in common; the defaults are the paper's.

    `pre_units`, `trunk_units` and `mask_units` are its p, t and r: units before and behind the two branches,
    in the trunk, and between two poolings of the mask. `learning` "residual" is (1 + M) * T, "naive" M * T,
    "none" leaves the masks out. The other four describe the masks: see `soft_mask`. Raises ValueError for
    what is none of these.
    """

    pre_units: int = 1
    trunk_units: int = 2
    mask_units: int = 1
    learning: Learning = "residual"
    mask_activation: MaskActivation = "mixed"
    mask_structure: MaskStructure = "encoder_decoder"
    mask_skip: MaskSkip = "unit"
    upsampling: Upsampling = "bilinear"

    def __post_init__(self) -> None:
        for field, kind in (
            ("learning", Learning),
            ("mask_activation", MaskActivation),
            ("mask_structure", MaskStructure),
            ("mask_skip", MaskSkip),
            ("upsampling", Upsampling),
        ):
            if getattr(self, field) not in get_args(kind):
                raise ValueError(f"{field} must be one of {get_args(kind)}, not {getattr(self, field)!r}")
        if min(self.pre_units, self.trunk_units, self.mask_units) < 1:
            raise ValueError("pre_units, trunk_units and mask_units must be at least 1")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of a network: `plain_units`, the first of which changes width and resolution, then `modules`.

    `mask_depth` is the number of poolings in each module's mask.
    """

    unit: UnitFactory
    width: int
    stride: int
    plain_units: int
    modules: int
    mask_depth: int

    def build(self, in_channels: int, design: ModuleDesign) -> list[AttentionModule]:
        """The stage's modules. The plain units are the first part of the first module's `pre`."""
        lead = [
            self.unit(in_channels if i == 0 else self.width, self.width, self.stride if i == 0 else 1)
            for i in range(self.plain_units)
        ]
        return [
            AttentionModule(
                pre=nn.Sequential(*(lead if j == 0 else []), *self._units(design.pre_units)),
                trunk=nn.Sequential(*self._units(design.trunk_units)),
                mask=None if design.learning == "none" else self._mask(design),
                post=nn.Sequential(*self._units(design.pre_units)),
                learning="naive" if design.learning == "naive" else "residual",
            )
            for j in range(self.modules)
        ]

    def _units(self, count: int) -> list[nn.Module]:
        return [self.unit(self.width, self.width, 1) for _ in range(count)]

    def _mask(self, design: ModuleDesign) -> SoftMask:
        hourglass = Hourglass(
            self.width,
            unit=self.unit,
            depth=self.mask_depth,
            units=design.mask_units,
            skip=design.mask_skip,
            upsampling=design.upsampling,
            structure=design.mask_structure,
        )
        read: Literal["normalized", "as_is"] = "as_is" if self.unit.activates_output else "normalized"
        return SoftMask(hourglass, self.width, read=read, activation=design.mask_activation)


def plain_stage(
    unit: UnitFactory, in_channels: int, width: int, *, units: int, stride: int
) -> list[AttentionModule]:
    """A stage of plain residual units: a module without a mask, first unit in `pre`, the others the trunk."""
    return [
        AttentionModule(
            pre=nn.Sequential(unit(in_channels, width, stride)),
            trunk=nn.Sequential(*(unit(width, width, 1) for _ in range(units - 1))),
            mask=None,
            post=nn.Identity(),
        )
    ]
