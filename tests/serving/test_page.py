"""What a user does with the page, in a real browser."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from browser_page import ERROR, RESULT, shot
from PIL import Image

import resattn
from resattn.hardware import reference_execution
from resattn.serving.runtime import NetworkRuntime

IDS = ("n01", "n02", "n03", "n04", "n05", "n06")


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
