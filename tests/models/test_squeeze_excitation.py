"""Squeeze-and-excitation, against timm's block, and the control that is made of it."""

import pytest
import torch
from timm.layers import SEModule

from resattn.models import create_model
from resattn.models.residual_units import PreActivationBasic
from resattn.models.squeeze_excitation import SqueezeExcitation


def test_a_unit_s_residual_is_what_timm_s_block_weights() -> None:
    torch.manual_seed(0)
    gate, theirs = SqueezeExcitation(32, reduction=8), SEModule(32, rd_channels=4)
    for mine, other in ((gate.squeeze, theirs.fc1), (gate.excite, theirs.fc2)):
        other.weight.data = mine.weight.detach()[:, :, None, None]
        other.bias.data = mine.bias.detach()
    gated, plain = PreActivationBasic(32, 32, 1, gate=gate).eval(), PreActivationBasic(32, 32, 1).eval()
    assert not plain.load_state_dict(gated.state_dict(), strict=False).missing_keys
    x = torch.randn(2, 32, 5, 7)
    torch.testing.assert_close(gated(x), x + theirs(plain(x) - x))


def test_the_control_is_the_plain_frame_with_gates_where_the_masks_were() -> None:
    control, plain = create_model("resattn_mini_se"), create_model("resattn_mini_plain")
    gates = {key.partition(".gate.")[0] for key in control.state_dict() if ".gate." in key}
    assert gates == {"stages.0.0.trunk", "stages.1.0.trunk"}
    assert {key for key in control.state_dict() if ".gate." not in key} == set(plain.state_dict())
    assert control.forward_with_masks(torch.rand(2, 3, 64, 64)).masks == {}
    deeper = create_model("resattn_mini_se", masked_stages=[3], trunk_units=2)
    gates = {key.partition(".gate.")[0] for key in deeper.state_dict() if ".gate." in key}
    assert gates == {"stages.2.0.trunk.0", "stages.2.0.trunk.1"}
    assert create_model("resattn_mini_se", learning="none").state_dict().keys() == plain.state_dict().keys()


def test_other_units_and_naive_learning_are_refused() -> None:
    with pytest.raises(ValueError, match="unit must be 'basic' with squeeze-and-excitation, not 'resnext'"):
        create_model("resattn_mini_se", unit="resnext")
    with pytest.raises(ValueError, match="learning cannot be 'naive' with squeeze-and-excitation"):
        create_model("resattn_mini_se", learning="naive")
