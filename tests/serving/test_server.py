"""The HTTP interface says what the predictor says, whichever network is behind it, and only to who has the token."""

import base64
import io
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from PIL import Image

import resattn
from resattn.errors import ResattnError
from resattn.evaluation.saliency import combined_saliency, look, running_with_gradients
from resattn.hardware import reference_execution
from resattn.serving.export import export
from resattn.serving.exported_model import ExportedModel
from resattn.serving.predictor import Predictor
from resattn.serving.runtime import COMBINED, NetworkRuntime, open_runtime

SIDE = 32
IDS = ("n01", "n02", "n03", "n04", "n05", "n06")
TOKEN = "a-token-of-some-length"


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def photograph(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    return png(Image.fromarray(pixels).resize((120, 80), Image.Resampling.BICUBIC))


RED = png(Image.new("RGB", (50, 40), (200, 20, 20)))


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    made = resattn.create_model("resattn_mini", num_classes=len(IDS)).eval()
    with torch.no_grad():
        made.get_classifier().weight.mul_(30)
    made.pretrained_cfg = {
        **made.pretrained_cfg,
        "input_size": (3, SIDE, SIDE),
        "data": "noise",
        "label_names": IDS,
        "label_descriptions": {label: f"thing {label}" for label in IDS},
    }
    return made


@pytest.fixture(scope="module")
def real(serve_once, network):
    """A server of a real network."""
    return serve_once(NetworkRuntime(network, execution=reference_execution("cpu")))


def test_answers_are_the_predictors(real, network, tmp_path: Path) -> None:
    predictor = Predictor(network, execution=reference_execution("cpu"))
    for seed in range(3):
        (tmp_path / "a.png").write_bytes(photograph(seed))
        (expected,) = predictor.predict(tmp_path / "a.png", top=3, masks="mean")
        answer = httpx.post(
            f"{real.url}/v1/predict?top=3&masks=true",
            content=photograph(seed),
            headers={"Content-Type": "image/png"},
        ).json()
        assert list(answer) == ["source", "labels", "descriptions", "probabilities", "masks"]
        assert answer["source"] is None
        assert answer["labels"] == list(expected.labels)
        assert answer["descriptions"] == list(expected.descriptions)
        assert answer["probabilities"] == pytest.approx(expected.probabilities, abs=1e-5)
        assert list(answer["masks"]) == [*expected.masks, COMBINED]
        combined = answer["masks"][COMBINED]
        assert (combined["width"], combined["height"]) == (SIDE, SIDE)
        assert 0 <= combined["low"] < combined["high"] <= 1
        for name, mask in expected.masks.items():
            sent = answer["masks"][name]
            assert (sent["low"], sent["high"]) == pytest.approx((mask.min(), mask.max()), abs=1e-4)
            head, data = sent["png"].split(",")
            assert head == "data:image/png;base64"
            gray = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
            assert gray.shape == mask.shape == (sent["height"], sent["width"])
            assert np.allclose(sent["low"] + gray / 255 * (sent["high"] - sent["low"]), mask, atol=0.01)


def test_a_form_or_the_file_itself(url: str) -> None:
    form = httpx.post(f"{url}/v1/predict", files={"image": ("../../etc/red.png", RED, "image/png")}).json()
    assert form["source"] == "red.png"
    assert form["descriptions"][0] == "red"
    assert "masks" not in form
    for kind in ("image/png", "image/jpeg", "application/octet-stream", "IMAGE/PNG"):
        raw = httpx.post(f"{url}/v1/predict", content=RED, headers={"Content-Type": kind}).json()
        assert raw | {"source": "red.png"} == form
    assert httpx.post(f"{url}/v1/predict", content=RED).json()["labels"] == form["labels"]


def test_top_is_kept_to(url: str) -> None:
    for top, count in ((1, 1), (2, 2), (1000, 3)):
        assert len(httpx.post(f"{url}/v1/predict?top={top}", content=RED).json()["labels"]) == count
    for top in ("0", "-1", "1001", "x", "1.5"):
        refused = httpx.post(f"{url}/v1/predict?top={top}", content=RED)
        assert refused.status_code == 422
        assert refused.json()["error"].startswith("top: ")


def test_a_bad_image_takes_no_other_with_it(url: str) -> None:
    names = ("a.png", "b.txt", "c.png", "d.png")
    contents = (RED, b"no image", RED[:60], RED)
    files = [("images", (name, data)) for name, data in zip(names, contents, strict=True)]
    answer = httpx.post(f"{url}/v1/predict-batch?top=1", files=files)
    assert answer.status_code == 200
    first, text, cut, last = answer.json()["predictions"]
    assert first | {"source": "d.png"} == last
    assert last["descriptions"] == ["red"]
    assert (text["source"], text["status"]) == ("b.txt", 415)
    assert (cut["source"], cut["status"]) == ("c.png", 422)
    assert "damaged or cut short" in cut["error"]
    raw = httpx.post(f"{url}/v1/predict-batch", content=RED).json()["predictions"]
    assert [one["descriptions"][0] for one in raw] == ["red"]


def test_model_health_and_metrics(serve) -> None:
    live = serve()
    model = httpx.get(f"{live.url}/v1/model").json()
    assert model["model"] == "fake"
    assert model["labels"] == ["n0", "n1", "n2"]
    assert model["input_size"] == [3, SIDE, SIDE]
    assert model["masks"] == ["stage1.0"]
    assert model["limits"]["body_bytes"] == 16 * 2**20
    assert httpx.get(f"{live.url}/healthz").json() == {"status": "ok"}
    assert httpx.get(f"{live.url}/readyz").json() == {"status": "ready"}
    for _ in range(3):
        httpx.post(f"{live.url}/v1/predict", content=RED)
    httpx.get(f"{live.url}/nowhere")
    metrics = httpx.get(f"{live.url}/metrics")
    assert metrics.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    values = dict(line.rsplit(" ", 1) for line in metrics.text.splitlines() if not line.startswith("#"))
    assert float(values['resattn_requests_total{method="POST",path="/v1/predict",status="200"}']) == 3
    assert float(values['resattn_requests_total{method="GET",path="other",status="404"}']) == 1
    assert float(values["resattn_batch_images_sum"]) == 3
    assert float(values["resattn_queue_images"]) == 0
    assert float(values["resattn_ready"]) == 1


def test_classes_of_folders_whose_names_are_no_text_are_served(serve, fake_runtime) -> None:
    runtime = fake_runtime(labels=("caf\udce9", "n1", "n2"), descriptions=("caf\udce9", "green", "blue"))
    live = serve(runtime)
    assert httpx.get(f"{live.url}/v1/model").json()["labels"][0] == "caf\udce9"
    assert httpx.post(f"{live.url}/v1/predict", content=RED).json()["descriptions"][0] == "caf\udce9"


def test_the_token_is_asked_for(serve) -> None:
    live = serve(token=TOKEN)
    for path in ("/v1/model", "/metrics"):
        assert httpx.get(live.url + path).status_code == 401
    for sent in ("", "Bearer", f"Bearer {TOKEN}x", "Bearer \u00e9".encode(), f"Basic {TOKEN}"):
        refused = httpx.post(f"{live.url}/v1/predict?top=0", content=RED, headers={"Authorization": sent})
        assert refused.status_code == 401, sent
        assert refused.headers["www-authenticate"] == "Bearer"
        assert "token" in refused.json()["error"]
    allowed = {"Authorization": f"Bearer {TOKEN}"}
    assert httpx.post(f"{live.url}/v1/predict", content=RED, headers=allowed).status_code == 200
    assert httpx.get(f"{live.url}/metrics", headers=allowed).status_code == 200
    # What the page needs before it can ask for the token, and what watches the process.
    for path in ("/", "/assets/app.js", "/healthz", "/readyz"):
        assert httpx.get(live.url + path).status_code == 200


def test_a_network_that_fails_is_a_500_and_no_end(serve, caplog: pytest.LogCaptureFixture) -> None:
    live = serve()
    live.runtime.failure = RuntimeError("out of memory")
    failed = httpx.post(f"{live.url}/v1/predict", content=RED)
    assert failed.status_code == 500
    assert failed.json()["error"] == "the server failed"
    assert "out of memory" in caplog.text
    live.runtime.failure = None
    assert httpx.post(f"{live.url}/v1/predict", content=RED).status_code == 200


def test_runtimes_agree(network, tmp_path: Path) -> None:
    export(network, tmp_path / "mini.onnx", masks=True, progress=False)
    exported, ours = open_runtime(tmp_path / "mini.onnx"), NetworkRuntime(network)
    assert isinstance(exported, ExportedModel)
    images = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)
    for name in ("model", "data", "labels", "descriptions", "input_size"):
        assert getattr(exported, name) == getattr(ours, name)
    assert ours.mask_names == (*exported.mask_names, COMBINED)
    assert np.allclose(exported(images), ours(images), atol=1e-3)
    logits, masks = ours.with_masks(images)
    assert np.allclose(logits, ours(images), atol=1e-4)
    for name, mask in exported.with_masks(images)[1].items():
        assert np.allclose(mask, masks[name], atol=1e-4)


def test_a_file_exported_without_masks_answers_who_asks_for_them(serve, dots_onnx: Path) -> None:
    live = serve(open_runtime(dots_onnx))
    assert httpx.get(f"{live.url}/v1/model").json()["masks"] == []
    asked = httpx.post(f"{live.url}/v1/predict?masks=true", content=photograph(0))
    assert (asked.status_code, asked.json()["masks"]) == (200, {})
    plain = httpx.post(f"{live.url}/v1/predict", content=photograph(0))
    assert asked.json() == plain.json() | {"masks": {}}


def test_the_combined_map_is_the_one_that_is_measured_against_boxes(network) -> None:
    runtime = NetworkRuntime(network, execution=reference_execution("cpu"))
    images = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3), dtype=np.uint8)
    combined = runtime.with_masks(images)[1][COMBINED]
    with running_with_gradients(network, reference_execution("cpu")):
        given = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
        seen = look(network, given)
        mirrored = look(network, given.flip(3), seen.predicted)
    expected = combined_saliency(seen, mirrored, (SIDE, SIDE))
    assert np.allclose(combined[:, 0], expected.numpy(), atol=1e-4)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_without_masks_nothing_is_combined() -> None:
    network = resattn.create_model("resattn_mini_plain", num_classes=2)
    network.pretrained_cfg |= {"input_size": (3, SIDE, SIDE)}
    assert COMBINED not in NetworkRuntime(network, execution=reference_execution("cpu")).mask_names


def test_what_cannot_be_served_is_told(tmp_path: Path) -> None:
    with pytest.raises(ResattnError, match="no classifier"):
        NetworkRuntime(resattn.create_model("resattn_mini", num_classes=0))
    with pytest.raises(ResattnError, match="does not exist"):
        open_runtime(tmp_path / "no.onnx")
