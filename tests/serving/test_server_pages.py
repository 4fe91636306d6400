"""The server describes itself, and gives out nothing but its own pages."""

import re

import httpx
import numpy as np
import schemathesis
from hypothesis import HealthCheck, settings
from PIL import Image
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from resattn.serving.sample_drawings import draw_samples
from resattn.serving.web_page import ASSETS, FOLDER


def test_only_the_list_of_assets_can_be_read(url: str) -> None:
    for path, name in ASSETS.items():
        answer = httpx.get(url + path)
        assert answer.status_code == 200
        assert answer.content == (FOLDER / name).read_bytes()
        again = httpx.get(url + path, headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert httpx.head(url + path).headers["content-length"] == str(len(answer.content))
    below = ("", "samples/", "../server.py", "%2e%2e/server.py", "..%2f..%2f..%2f..%2fetc/passwd")
    for path in (*(f"/assets/{one}" for one in below), "/etc/passwd", "//etc/passwd", "/index.html", "/docs"):
        assert httpx.get(httpx.URL(url).copy_with(raw_path=path.encode())).status_code == 404, path


def test_every_answer_has_the_headers_of_security(url: str) -> None:
    for method, path in (("GET", "/"), ("GET", "/nowhere"), ("POST", "/v1/predict"), ("DELETE", "/v1/model")):
        headers = httpx.request(method, url + path).headers
        assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
        assert headers["x-content-type-options"] == "nosniff"
        assert "server" not in headers
    assert httpx.delete(f"{url}/v1/model").status_code == 405


def test_the_page_holds_nothing_inline_and_nothing_from_elsewhere() -> None:
    for name in ("index.html", "app.js", "masks.js", "theme.js", "style.css", "icon.svg"):
        text = (FOLDER / name).read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|[\"'(]//", text), name
    page = (FOLDER / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"\son\w+=|\sstyle=|<style|<script(?![^>]*\ssrc=)", page)


def test_what_it_says_of_itself_holds(url: str) -> None:
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    checks = (
        not_a_server_error,
        status_code_conformance,
        content_type_conformance,
        response_schema_conformance,
    )
    tried = set()

    for operation in (one.ok() for one in schema.get_all_operations()):

        @schemathesis_given(operation)
        def holds(case) -> None:
            tried.add(case.operation.label)
            case.call_and_validate(checks=checks)

        holds()
    assert tried == {
        "POST /v1/predict",
        "POST /v1/predict-batch",
        *(f"GET {path}" for path in ("/v1/model", "/metrics", "/healthz", "/readyz")),
    }
    assert httpx.get(f"{url}/healthz").status_code == 200


def schemathesis_given(operation):
    """Runs a test with requests that the description allows, and with some that it does not."""
    from hypothesis import given

    either = operation.as_strategy() | operation.as_strategy(
        generation_mode=schemathesis.GenerationMode.NEGATIVE
    )
    profile = settings(
        max_examples=25,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=True,
        database=None,
    )
    return lambda test: profile(given(case=either)(test))


def test_the_samples_are_what_the_package_draws() -> None:
    drawn = draw_samples()
    assert {f"samples/{name}.png" for name in drawn} == {one for one in ASSETS.values() if "samples" in one}
    for name, image in drawn.items():
        with Image.open(FOLDER / "samples" / f"{name}.png") as kept:
            assert kept.size == image.size
            # Pillow's versions round differently.
            difference = np.abs(np.asarray(kept, dtype=int) - np.asarray(image, dtype=int))
            assert difference.mean() < 2, name
