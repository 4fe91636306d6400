"""The attention module: (1 + M(x)) * T(x), and nothing else.

Source: Wang et al., Residual Attention Network for Image Classification (CVPR 2017, arXiv 1704.06904),
section 3.
"""

from typing import Literal, cast, get_args

from torch import Tensor, nn

AttentionLearning = Literal["residual", "naive"]


class AttentionModule(nn.Module):
    """A trunk whose features are weighted, everywhere and in every channel, by a soft mask.

    With x1 = pre(x), T = trunk(x1) and M = mask(x1) the output is post((1 + M) * T) for "residual" attention
    (section 3.1), post(M * T) for "naive" attention, and post(T) where `mask` is None: a plain stage, without
    attention, of the same frame.

    `pre`, `trunk` and `post` map N x C x H x W to N x C' x H' x W'; `mask` maps x1 to
    N x C' x H' x W' of the trunk's output, or to what broadcasts to it: N x 1 x H' x W', N x C' x 1 x 1.
    Raises ValueError for an unknown `learning`.
    """

    def __init__(
        self,
        *,
        pre: nn.Module,
        trunk: nn.Module,
        mask: nn.Module | None,
        post: nn.Module,
        learning: AttentionLearning = "residual",
    ) -> None:
        super().__init__()
        if learning not in get_args(AttentionLearning):
            raise ValueError(f"learning must be one of {get_args(AttentionLearning)}, not {learning!r}")
        self.pre = pre
        self.trunk = trunk
        self.mask = mask
        self.post = post
        self.learning = learning

    def forward(self, x: Tensor) -> Tensor:
        """The module's output; x is N x C x H x W."""
        return self.forward_with_mask(x)[0]

    def forward_with_mask(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """The module's output and the mask that made it (N x C' or 1 x H' x W'), None where there is none."""
        x = self.pre(x)
        features = cast(Tensor, self.trunk(x))
        if self.mask is None:
            return self.post(features), None
        mask = cast(Tensor, self.mask(x))
        weight = 1 + mask if self.learning == "residual" else mask
        return self.post(features * weight), mask
