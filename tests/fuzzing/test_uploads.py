"""Uploads spoilt at random: pixels of the size the network sees, or a refusal with its status."""

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from resattn.serving.multipart import boundary_of, files_of
from resattn.serving.refusals import Refusal
from resattn.serving.uploads import FORMATS, decode

SIZE, PIXELS = 24, 10_000
BOUNDARY = b"xYzZY"


def image_file(kind: str) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, kind)
    return file.getvalue()


FILES = {kind: image_file(kind) for kind in FORMATS}
# What can arrive as a header: bytes, which HTTP servers read as Latin-1; among them RFC 2231's ways to say the rest.
HEADERS = st.text(st.characters(max_codepoint=255), max_size=60)
ENCODED = st.sampled_from(["boundary*", "boundary*0*", "name*"]).flatmap(
    lambda name: HEADERS.map(lambda text: f"multipart/form-data; {name}=UTF-8''%E2%82%AC{text}")
)
PART = b"""--%s\r
Content-Disposition: form-data; name="image"; filename="%d.png"\r
Content-Type: image/png\r
\r
content of %d\r
"""
FORM = b"".join(PART % (BOUNDARY, number, number) for number in range(2)) + b"--%s--\r\n" % BOUNDARY


@st.composite
def spoilt(draw: st.DrawFn, content: bytes, near: int) -> bytes:
    """Content with up to four pieces replaced, most of them within the first `near` bytes, and perhaps cut short."""
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, min(near, len(content))) | st.integers(0, len(content)))
        content = content[:at] + draw(st.binary(max_size=4)) + content[at + draw(st.integers(0, 4)) :]
    return content[: draw(st.just(len(content)) | st.integers(0, len(content)))]


@pytest.mark.parametrize("kind", FORMATS)
@settings.get_profile("fuzzing")
@given(data=st.data())
def test_image_files_spoilt_at_random(ended: Any, kind: str, data: st.DataObject) -> None:
    content = data.draw(spoilt(FILES[kind], 200))
    try:
        pixels = decode(content, SIZE, pixels=PIXELS)
    except Refusal as refusal:
        assert refusal.status in (413, 415, 422)
        assert refusal.what
        ended(f"{kind} refused")
    else:
        assert (pixels.shape, pixels.dtype) == ((SIZE, SIZE, 3), np.uint8)
        ended(f"{kind} read")


@settings.get_profile("fuzzing")
@given(content=spoilt(FORM, len(FORM)), most=st.integers(1, 3))
def test_forms_spoilt_at_random(ended: Any, content: bytes, most: int) -> None:
    try:
        files = files_of(content, BOUNDARY, field="image", most=most)
    except Refusal as refusal:
        assert refusal.status in (413, 422)
        ended("refused")
    else:
        assert 1 <= len(files) <= most
        assert all("/" not in (file.name or "") and "\\" not in (file.name or "") for file in files)
        ended("read")


@pytest.mark.parametrize("field", ["filename*", "filename*0*"])
def test_a_file_name_in_another_encoding_costs_the_name_alone(field: str) -> None:
    named = f"name=\"image\"; {field}=UTF-8''%E2%82%AC.png".encode()
    form = FORM.replace(b'name="image"; filename="0.png"', named)
    files = files_of(form, BOUNDARY, field="image", most=2)
    assert [file.name for file in files] == [None, "1.png"]


@settings.get_profile("fuzzing")
@given(header=HEADERS | HEADERS.map("multipart/form-data; boundary={}".format) | ENCODED)
def test_content_types_spoilt_at_random(ended: Any, header: str) -> None:
    try:
        found = boundary_of(header)
    except Refusal as refusal:
        assert refusal.status == 422
        ended("refused")
    else:
        assert found is None or found
        ended("read")
