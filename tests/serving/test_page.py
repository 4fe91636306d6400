"""What a user does with the page, in a real browser."""

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import resattn
from resattn.hardware import reference_execution
from resattn.serving.runtime import NetworkRuntime

CHROMIUM = Path("/usr/bin/chromium")
IDS = ("n01", "n02", "n03", "n04", "n05", "n06")
TOKEN = "a-token-of-some-length"
RESULT, ERROR = "html[data-state=result]", "html[data-state=error]"
# For whoever wants to look at them: RESATTN_SCREENSHOTS=folder pytest tests/serving/test_page.py
SCREENSHOTS = os.environ.get("RESATTN_SCREENSHOTS")

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
pytestmark = pytest.mark.skipif(
    not CHROMIUM.exists(), reason=f"needs a browser at {CHROMIUM}: apt-get install chromium"
)


@pytest.fixture(scope="module")
def live(serve_once) -> Any:
    torch.manual_seed(0)
    network = resattn.create_model("resattn_mini", num_classes=len(IDS)).eval()
    with torch.no_grad():
        network.get_classifier().weight.mul_(30)
        # Masks begin at 0.5 everywhere.
        for name, weights in network.named_parameters():
            if ".mask." in name:
                weights.add_(0.3 * torch.randn_like(weights))
    names = {label: f"thing {label}, object {label}" for label in IDS}
    network.pretrained_cfg |= {"input_size": (3, 32, 32), "label_names": IDS, "label_descriptions": names}
    return serve_once(NetworkRuntime(network, execution=reference_execution("cpu")), body_bytes=2**20)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        # Chromium's sandbox does not work for root, which containers are run as.
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield opened
        opened.close()


@pytest.fixture
def open_page(browser) -> Iterator[Any]:
    """Opens the page of a server, after a script where one is given.

    The test fails for any request to another host, and any error in the page.
    """
    contexts, wrong = [], []

    def open_(url: str, *, script: str = "", **options: Any) -> Any:
        context = browser.new_context(**options)
        context.add_init_script(script)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: "Security" in message.text and wrong.append(message.text))
        page.on(
            "request",
            lambda request: request.url.startswith((url, "blob:", "data:")) or wrong.append(request.url),
        )
        page.goto(url)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert wrong == []


def shot(page: Any, name: str) -> None:
    """A picture of the whole page, where somebody asked for it."""
    if SCREENSHOTS:
        path = Path(SCREENSHOTS) / f"{name}.png"
        page.screenshot(full_page=True, path=path, animations="disabled")


def photograph(folder: Path) -> Path:
    pixels = np.random.default_rng(1).integers(0, 120, (6, 9, 3), dtype=np.uint8) + np.uint8([0, 0, 130])
    path = folder / "holiday.jpg"
    Image.fromarray(pixels).resize((640, 480), Image.Resampling.BICUBIC).save(path)
    return path


def overlay(page: Any) -> tuple[bool, str, str]:
    """Whether the mask is seen, its opacity, and a digest of its pixels."""
    return page.evaluate(
        """() => {
          const canvas = document.getElementById("overlay"), style = getComputedStyle(canvas);
          return [style.visibility === "visible", style.opacity, canvas.toDataURL()];
        }"""
    )


def test_a_drawing_its_stages_and_the_opacity(live, open_page) -> None:
    page = open_page(live.url, viewport={"width": 1280, "height": 900})
    assert page.locator("html").get_attribute("data-state") == "empty"
    shot(page, "desktop-empty")
    page.get_by_role("button", name="Goldfish").click()
    page.wait_for_selector(RESULT)
    assert page.locator("#classes li").count() == 5
    first = page.locator("#classes li").first
    assert first.locator(".name").inner_text().startswith("Thing n0")
    assert first.locator(".share").inner_text().endswith(" %")
    assert page.locator("#status").inner_text().startswith("Most likely thing n0")
    assert page.get_by_role("radio").count() == 4
    assert page.get_by_role("radio", name="Where it looked").is_checked()
    seen, opacity, combined = overlay(page)
    assert (seen, opacity) == (True, "0.5")
    assert page.get_by_text("How much the answer depends on the masks").is_visible()
    page.get_by_text("Stage 2").click()
    second_stage = overlay(page)[2]
    assert second_stage != combined
    assert page.get_by_text("mean over channels").is_visible()
    assert not page.get_by_text("How much the answer depends on the masks").is_visible()
    page.get_by_text("Stage 1").click()
    assert overlay(page)[2] not in (combined, second_stage)
    slider = page.get_by_role("slider", name="Opacity")
    slider.fill("85")
    assert overlay(page)[1] == "0.85"
    assert page.locator("#opacity-value").inner_text() == "85 %"
    page.get_by_text("None").click()
    assert overlay(page)[0] is False
    assert slider.is_disabled()
    # The choice stays for the next image.
    page.get_by_role("button", name="Lemon").click()
    page.wait_for_selector("#photo[alt*=lemon]")
    page.wait_for_selector(RESULT)
    assert page.get_by_role("radio", name="None").is_checked()
    page.get_by_text("Stage 2").click()
    shot(page, "desktop-result")


def test_a_photograph_is_uploaded_dropped_and_pasted(serve, open_page, tmp_path: Path) -> None:
    page = open_page(serve().url)
    page.set_input_files("#choose", photograph(tmp_path))
    page.wait_for_selector(RESULT)
    assert page.locator("#photo").get_attribute("alt") == "holiday.jpg"
    assert page.locator("#classes .name").first.inner_text() == "Blue"
    for kind, name, colour in (("paste", "pasted.png", "Green"), ("drop", "dropped.png", "Red")):
        file = io.BytesIO()
        Image.new("RGB", (60, 60), colour.lower()).save(file, "PNG")
        page.evaluate(
            """([kind, name, bytes]) => {
              const transfer = new DataTransfer();
              transfer.items.add(new File([new Uint8Array(bytes)], name, {type: "image/png"}));
              const options = {bubbles: true, cancelable: true};
              document.body.dispatchEvent(kind === "paste"
                ? new ClipboardEvent("paste", {...options, clipboardData: transfer})
                : new DragEvent("drop", {...options, dataTransfer: transfer}));
            }""",
            [kind, name, list(file.getvalue())],
        )
        page.wait_for_selector(f"#photo[alt='{name}']")
        page.wait_for_selector(RESULT)
        assert page.locator("#classes .name").first.inner_text() == colour


def test_files_that_are_no_images_are_told(live, open_page, tmp_path: Path) -> None:
    page = open_page(live.url)
    (tmp_path / "notes.txt").write_text("not an image")
    page.set_input_files("#choose", tmp_path / "notes.txt")
    page.wait_for_selector(ERROR)
    said = page.get_by_role("alert").inner_text()
    assert "notes.txt" in said
    assert "The file is no image that the server can read." in said
    assert "JPEG" in said
    assert page.get_by_role("button", name="Try again").count() == 0
    shot(page, "desktop-error")
    (tmp_path / "large.png").write_bytes(b"x" * (2**20 + 1))
    page.set_input_files("#choose", tmp_path / "large.png")
    page.get_by_text("The file has 2 MiB.").wait_for()
    page.get_by_role("button", name="Lemon").click()
    page.wait_for_selector(RESULT)
    assert page.get_by_role("alert").inner_text() == ""


def test_the_keyboard_suffices(live, open_page) -> None:
    page = open_page(live.url)
    page.get_by_role("button", name="Ladybird").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(RESULT)
    page.get_by_role("radio", name="Stage 2").focus()
    page.keyboard.press("ArrowLeft")
    assert page.get_by_role("radio", name="Stage 1").is_checked()
    page.get_by_role("slider").focus()
    page.keyboard.press("End")
    assert overlay(page)[1] == "1"
    page.locator("#choose").focus()
    ring = page.locator("#frame").evaluate("frame => getComputedStyle(frame).outlineStyle")
    assert ring == "solid"


def test_light_and_dark(live, open_page) -> None:
    def background(page: Any) -> int:
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(int(part) for part in colour.strip("rgb()").split(","))

    light, dark = (open_page(live.url, color_scheme=scheme) for scheme in ("light", "dark"))
    assert background(light) > 600
    assert background(dark) < 120
    toggle = light.locator("#theme")
    assert toggle.get_attribute("aria-label") == "Colours: Auto, as the system"
    toggle.click()
    # Whoever speaks to the browser says what is to be seen on the button.
    assert toggle.get_attribute("aria-label") == f"Colours: {toggle.inner_text()}" == "Colours: Dark"
    assert background(light) < 120
    light.reload()
    assert background(light) < 120
    light.locator("#theme").click()
    assert background(light) > 600


def test_on_a_phone_nothing_is_cut_off(live, open_page) -> None:
    for scheme in ("light", "dark"):
        page = open_page(
            live.url,
            viewport={"width": 390, "height": 844},
            color_scheme=scheme,
            is_mobile=True,
            has_touch=True,
        )
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.get_by_role("button", name="Lighthouse").tap()
        page.wait_for_selector(RESULT)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        shot(page, f"phone-{scheme}")
        for button in page.locator("button:visible").all():
            assert button.bounding_box()["height"] >= 44


def test_text_has_contrast(live, open_page) -> None:
    """WCAG AA, 4.5 to 1, for ink, soft ink, accent and danger on what they stand on."""
    for scheme in ("light", "dark"):
        page = open_page(live.url, color_scheme=scheme)
        colours = page.evaluate(
            """() => {
              const style = getComputedStyle(document.documentElement);
              const names = ["paper", "card", "ink", "soft", "accent", "accent-ink", "danger", "danger-back"];
              return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
            }"""
        )
        pairs = [(text, back) for text in ("ink", "soft", "accent") for back in ("paper", "card")]
        for text, back in (*pairs, ("accent-ink", "accent"), ("danger", "danger-back")):
            assert contrast(colours[text], colours[back]) >= 4.5, (scheme, text, back)


def contrast(one: str, other: str) -> float:
    """WCAG 2's ratio of two colours, "#rrggbb"."""

    def luminance(colour: str) -> float:
        parts = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    dark, bright = sorted((luminance(one), luminance(other)))
    return (bright + 0.05) / (dark + 0.05)


def test_a_token_is_asked_for_once(serve, open_page) -> None:
    page = open_page(serve(token=TOKEN).url)
    page.get_by_role("button", name="Mushroom").click()
    page.wait_for_selector(ERROR)
    shot(page, "desktop-token")
    page.keyboard.type("a-wrong-token-of-that-length")
    page.keyboard.press("Enter")
    page.get_by_text("The token is wrong.").wait_for()
    page.locator("#token-value").fill(TOKEN)
    page.keyboard.press("Enter")
    page.wait_for_selector(RESULT)
    page.reload()
    page.get_by_text("fake trained on colours").wait_for()


def test_a_token_that_is_wrong_is_told_before_there_is_an_image(serve, open_page) -> None:
    page = open_page(serve(token=TOKEN).url)
    for wrong, said in (
        ("a-wrong-token-of-that-length", "The token is wrong."),
        ("a-token-of-some-l\u0113ngth", "A token has no accents"),
    ):
        page.locator("#token-value").fill(wrong)
        page.get_by_role("button", name="Use it").click()
        page.get_by_text(said).wait_for()
        assert page.evaluate("document.activeElement.id") == "token-value"
    page.locator("#token-value").fill(TOKEN)
    page.keyboard.press("Enter")
    page.get_by_text("fake trained on colours").wait_for()
    page.wait_for_selector("html[data-state=empty]")
    assert page.get_by_role("alert").inner_text() == ""


def test_without_storage_the_page_works(serve, open_page) -> None:
    blocked = """for (const name of ["localStorage", "sessionStorage"])
        Object.defineProperty(window, name, {get() { throw new DOMException("blocked", "SecurityError"); }});"""
    page = open_page(serve(token=TOKEN).url, script=blocked)
    page.locator("#theme").click()
    page.locator("#token-value").fill(TOKEN)
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Lemon").click()
    page.wait_for_selector(RESULT)


def test_with_the_systems_few_colours_shares_and_the_choice_are_seen(live, open_page) -> None:
    page = open_page(live.url, forced_colors="active")
    page.get_by_role("button", name="Lemon").click()
    page.wait_for_selector(RESULT)
    for one in page.locator(".bar").all()[1:]:
        bar, share = (
            part.evaluate("part => getComputedStyle(part).backgroundColor")
            for part in (one, one.locator("span"))
        )
        assert bar != share
    outlines = [
        label.evaluate("label => getComputedStyle(label).outlineStyle")
        for label in page.locator(".stages label").all()
    ]
    assert outlines == ["none", "none", "none", "solid"]


def test_a_server_that_is_gone_is_told(serve, open_page) -> None:
    live = serve()
    page = open_page(live.url)
    page.wait_for_selector("#samples img")
    page.evaluate("Promise.all([...document.images].map((image) => image.decode().catch(() => 0)))")
    page.get_by_text("fake trained on colours").wait_for()
    live.stop()
    page.set_input_files("#choose", files=[{"name": "a.png", "mimeType": "image/png", "buffer": b"x"}])
    page.wait_for_selector(ERROR)
    assert "The server cannot be reached." in page.get_by_role("alert").inner_text()
    assert page.get_by_role("button", name="Try again").is_visible()


def test_what_cannot_be_read_is_told_and_try_again_asks_for_the_same(serve, open_page) -> None:
    live = serve()
    page = open_page(live.url)
    page.get_by_role("button", name="Goldfish").click()
    page.wait_for_selector(RESULT)
    # As where a folder was dropped, or the file changed on the disk.
    page.evaluate(
        "() => { Blob.prototype.arrayBuffer = () => Promise.reject(new DOMException('', 'NotReadableError')); }"
    )
    page.set_input_files("#choose", files=[{"name": "a.png", "mimeType": "image/png", "buffer": b"x"}])
    page.wait_for_selector(ERROR)
    told = page.get_by_role("alert").inner_text()
    assert "a.png" in told and "The file cannot be read." in told
    assert page.locator("#classes li").count() == 0
    page.reload()
    page.get_by_role("button", name="Goldfish").click()
    page.wait_for_selector(RESULT)
    page.route("**/lemon.png", lambda route: route.abort())
    page.get_by_role("button", name="Lemon").click()
    page.wait_for_selector(ERROR)
    assert "The drawing could not be fetched." in page.get_by_role("alert").inner_text()
    assert page.locator("#classes li").count() == 0
    page.unroute("**/lemon.png")
    page.get_by_role("button", name="Try again").click()
    page.wait_for_selector("#photo[alt*=lemon]")
    page.wait_for_selector(RESULT)
