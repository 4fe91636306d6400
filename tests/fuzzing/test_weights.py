"""Weights files spoilt at random: the network that was saved, or a sentence that says what is wrong."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from resattn.errors import ResattnError
from resattn.models import create_model
from resattn.models.weights import load_weights, save_weights

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network's weights."""
    torch.manual_seed(0)
    network = create_model("resattn_mini", num_classes=2, width_scale=0.125, stem_width=4, mask_width=2)
    path = tmp_path_factory.mktemp("weights") / "whole.safetensors"
    about = {"data": "dots", "label_names": ["a", "b"], "input_size": 24}
    save_weights(path, network, metadata=about)
    return path


def refused_or_equal(path: Path, whole: Path, ended: Any) -> None:
    try:
        network = load_weights(path)
    except ResattnError as error:
        assert str(path) in error.what
        assert error.mend
        ended("refused")
        return
    original = load_weights(whole)
    tensors = original.state_dict()
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in network.state_dict().items())
    assert network.pretrained_cfg["label_names"] == original.pretrained_cfg["label_names"]
    ended("read")


@settings.get_profile("fuzzing")
@given(
    places=st.lists(st.tuples(st.floats(0, 1), st.integers(1, 255)), max_size=4),
    gap=st.one_of(st.none(), st.tuples(st.floats(0, 1), st.integers(1, 64))),
    keep=st.one_of(st.just(1.0), st.floats(0, 1)),
    header=st.booleans(),
)
def test_bytes_spoilt_at_random(
    saved: Path,
    tmp_path: Path,
    ended: Any,
    places: list[tuple[float, int]],
    gap: tuple[float, int] | None,
    keep: float,
    header: bool,
) -> None:
    content = bytearray(saved.read_bytes())
    last = 8 + int.from_bytes(content[:8], "little") if header else len(content)
    for place, flip in places:
        content[int(place * (last - 1))] ^= flip
    if gap:
        start = int(gap[0] * (last - 1))
        del content[start : start + gap[1]]
    path = tmp_path / "spoilt.safetensors"
    path.write_bytes(content[: int(keep * len(content))])
    refused_or_equal(path, saved, ended)


@settings.get_profile("fuzzing")
@given(data=st.data())
def test_metadata_with_any_values(saved: Path, tmp_path: Path, ended: Any, data: st.DataObject) -> None:
    content = saved.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    head = json.loads(content[8:end])
    about = json.loads(head["__metadata__"]["resattn"])
    options = about["options"]
    group = data.draw(st.sampled_from([about, options]))
    names = st.sampled_from(sorted(group)) | st.sampled_from(
        ["unit", "trunk_units", "learning", "pretrained", "x"]
    )
    group[data.draw(names)] = data.draw(JSON)
    head["__metadata__"]["resattn"] = json.dumps(about)
    text = json.dumps(head).encode()
    path = tmp_path / "spoilt.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[end:])
    refused_or_equal(path, saved, ended)


@pytest.mark.parametrize("option", ["trunk_units", "stem_units", "stem_width", "width_scale"])
def test_a_network_too_large_to_build_is_refused_before_it_is_built(
    saved: Path, tmp_path: Path, option: str
) -> None:
    content = saved.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    head = json.loads(content[8:end])
    about = json.loads(head["__metadata__"]["resattn"])
    about["options"][option] = 10**9
    head["__metadata__"]["resattn"] = json.dumps(about)
    text = json.dumps(head).encode()
    path = tmp_path / "huge.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[end:])
    with pytest.raises(ResattnError, match="a number beyond 4096"):
        load_weights(path)
