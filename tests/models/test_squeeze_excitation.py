"""Squeeze-and-excitation as a mask, against timm's block."""

import torch
from timm.layers import SEModule
from torch import nn

from resattn.models import create_model
from resattn.models.attention_module import AttentionModule
from resattn.models.squeeze_excitation import SqueezeExcitation


def test_a_naive_module_with_it_is_timm_s_block() -> None:
    torch.manual_seed(0)
    ours, theirs = SqueezeExcitation(32, reduction=8), SEModule(32, rd_channels=4)
    for mine, other in ((ours.squeeze, theirs.fc1), (ours.excite, theirs.fc2)):
        other.weight.data = mine.weight.detach()[:, :, None, None]
        other.bias.data = mine.bias.detach()
    identity = nn.Identity()
    module = AttentionModule(pre=identity, trunk=identity, mask=ours, post=identity, learning="naive")
    x = torch.rand(2, 32, 5, 7)
    torch.testing.assert_close(module(x), theirs(x))


def test_the_control_is_the_plain_frame_with_the_masks_replaced() -> None:
    control, plain = create_model("resattn_mini_se"), create_model("resattn_mini_plain")
    own = {key for key in control.state_dict() if ".mask." not in key}
    assert own == set(plain.state_dict())
    masks = control.eval().forward_with_masks(torch.rand(2, 3, 64, 64)).masks
    assert {key: mask.shape for key, mask in masks.items()} == {
        "stage1.0": (2, 64, 1, 1),
        "stage2.0": (2, 128, 1, 1),
    }
