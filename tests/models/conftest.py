"""A small network, and a file with its weights."""

from pathlib import Path

import pytest
import torch
from labelled_weights import METADATA

from resattn.models import ResidualAttentionNetwork, create_model
from resattn.models.weights import save_weights


@pytest.fixture(scope="module")
def network() -> ResidualAttentionNetwork:
    """A network of three classes whose statistics have seen images."""
    torch.manual_seed(0)
    built = create_model("resattn_mini", num_classes=3, mask_width=8, masked_stages=(3,))
    with torch.no_grad():
        built.train()(torch.rand(8, 3, 16, 16))  # statistics that are not the ones it began with
    return built


@pytest.fixture(scope="module")
def saved(network: ResidualAttentionNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file with its weights."""
    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    save_weights(path, network, metadata=METADATA)
    return path
