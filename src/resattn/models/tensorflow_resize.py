"""Bilinear resizing as TensorFlow 1 did it, which neither mode of `torch.nn.functional.interpolate` does."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor


def tensorflow_resize(features: Tensor, size: Sequence[int]) -> Tensor:
    """Resize as TensorFlow 1's `resize_images(method=BILINEAR, align_corners=False)`.

    `features`: N x C x H x W, floating point; `size`: the new (height, width). Returns N x C x height x
    width. Along each axis, output position i reads the input at i * in / out, linearly between the two
    nearest positions, clamped at the last one. There are no half-pixel centres, so what is enlarged moves up
    and left by up to half an input pixel. By a factor of 2: out[2i] = in[i], out[2i+1] = (in[i] + in[i+1]) /
    2, the last one repeated. Source: `LegacyScaler` in TensorFlow's core/util/image_resizer_state.h.
    """
    height, width = size
    # Repeating the last row and column once is the clamp; the corners of the enlarged grid then lie at
    # 0 and `in`, those of an output with one more position at 0 and `out`, so aligning corners steps by in /
    # out.
    clamped = F.pad(features, (0, 1, 0, 1), mode="replicate")
    enlarged = F.interpolate(clamped, size=(height + 1, width + 1), mode="bilinear", align_corners=True)
    # Autocast resizes in float32; left so, every feature behind the mask would be float32 as well.
    return enlarged[..., :height, :width].to(features.dtype)
