"""What the page does, in a real browser, without a token, storage, a server, or a file that can be read."""

from browser_page import ERROR, RESULT, shot

TOKEN = "a-token-of-some-length"


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
