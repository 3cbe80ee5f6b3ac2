"""What a visitor does, in a real browser, with pictures that are really drawn."""

import base64
import re
import signal
import zipfile
from collections.abc import Callable

import pytest
import requests
from playwright.sync_api import Locator, Page, expect

from frontend_streamlit.clients.backend import BackendUnavailable
from frontend_streamlit.page.settings_form import COUNT, NEGATIVE, QUALITIES, SETTINGS
from frontend_streamlit.texts.english import ENGLISH
from frontend_streamlit.texts.japanese import JAPANESE
from tests.browser.conftest import SCREENSHOTS, Service, settle

APPLE, ENGLISH_APPLE = "青い背景に赤いりんご", "a red apple on a blue background"
PHONE = {"width": 390, "height": 844}
LONG_MS = 240_000  # for pictures, on a machine with other work to do
Visit = Callable[..., Page]


def field(page: Page, label: str) -> Locator:
    return page.get_by_label(label, exact=True)


def button(page: Page, label: str) -> Locator:
    return page.get_by_role("button", name=label, exact=True)


def cards(page: Page) -> Locator:
    return page.locator("[class*=st-key-job_]")


def shot(page: Page, name: str) -> None:
    page.screenshot(path=SCREENSHOTS / f"{name}.png")


def last_long(page: Page, pictures: int = 8) -> None:
    """Choose so many pictures and steps that a job lasts until the test is through with it, on a fast machine too."""
    page.get_by_text(SETTINGS.ja, exact=True).click()
    field(page, COUNT.ja).fill(str(pictures))
    field(page, COUNT.ja).press("Enter")
    slider = first_slider(page)
    slider.focus()
    slider.press("End")
    expect(slider).to_have_value("250")
    # A slider tells the page a moment later; then these are no named quality's numbers any more.
    expect(page.get_by_role("radio", name=QUALITIES["standard"].ja)).not_to_be_checked()
    page.get_by_text(SETTINGS.ja, exact=True).click()


def first_slider(page: Page) -> Locator:
    """The one for the steps of the first stage."""
    return page.get_by_role("slider").first


def draw(page: Page, prompt: str = APPLE) -> None:
    field(page, JAPANESE.prompt).fill(prompt)
    button(page, JAPANESE.draw).last.click()  # the first is the part of the page


def finished(page: Page) -> Locator:
    return cards(page).get_by_text(JAPANESE.download)


@pytest.fixture(scope="module")
def link(service: Service) -> str:
    """The link of somebody who has three pictures."""
    owner = "p" * 32
    request = {"prompt": ENGLISH_APPLE, "source_prompt": APPLE, "translator": "offline", "n": 3, "owner": owner}
    requests.post(
        f"{service.backend_url}/v1/jobs", json=request | {"steps": 10, "seed": 1}, timeout=10
    ).raise_for_status()
    return f"{service.url}/?u={owner}"


def test_a_sentence_becomes_a_picture(visit: Visit) -> None:
    page = visit()
    expect(page.get_by_role("radio", name=JAPANESE.draw_view)).to_be_checked()
    shot(page, "1_empty")
    field(page, JAPANESE.prompt).fill(APPLE)
    field(page, JAPANESE.prompt).blur()
    expect(field(page, JAPANESE.english)).to_have_value(ENGLISH_APPLE)
    expect(page.get_by_text(JAPANESE.translated_by["offline"])).to_be_visible()
    last_long(page)
    button(page, JAPANESE.draw).last.click()

    preview = cards(page).locator("img")
    expect(preview).to_be_visible(timeout=LONG_MS)
    expect(page.get_by_role("progressbar")).to_be_visible()
    expect(cards(page)).to_contain_text("/250")
    shot(page, "2_running")
    preview.evaluate("image => image.mark = 'the first'")
    sources = {preview.get_attribute("src")}
    for _ in range(2):
        page.wait_for_function(
            "seen => !seen.includes(document.querySelector('[class*=st-key-job_] img').src)",
            arg=list(sources),
            timeout=LONG_MS,
        )
        sources.add(preview.get_attribute("src"))
    assert preview.evaluate("image => image.mark") == "the first", "the preview flickers: each one is a new element"

    page.reload()
    expect(cards(page)).to_contain_text("/250")
    shot(page, "3_after_a_refresh")

    button(page, JAPANESE.cancel).click()
    expect(page.get_by_text(JAPANESE.status["cancelled"])).to_be_visible()
    shot(page, "4_cancelled")
    expect(field(page, JAPANESE.prompt)).to_have_value(APPLE)
    page.get_by_text(SETTINGS.ja, exact=True).click()
    expect(first_slider(page)).to_have_value("250")  # a refresh keeps the settings
    page.get_by_role("radio", name=QUALITIES["fast"].ja).or_(button(page, QUALITIES["fast"].ja)).click()
    field(page, COUNT.ja).fill("1")
    field(page, COUNT.ja).press("Enter")
    draw(page)
    expect(finished(page)).to_be_visible(timeout=LONG_MS)
    source = cards(page).locator("img").get_attribute("src") or ""
    assert source.startswith("data:image/png;base64,")
    with page.expect_download() as download:
        finished(page).click()
    assert re.fullmatch(r"kotoe_[0-9a-f]{8}_0\.png", download.value.suggested_filename)
    assert download.value.path().read_bytes() == base64.b64decode(source.partition(",")[2])
    shot(page, "5_picture")


def test_two_jobs_run_side_by_side_and_on_two_devices(visit: Visit) -> None:
    page = visit()
    last_long(page)
    draw(page, "黒い猫")
    expect(button(page, JAPANESE.cancel)).to_have_count(1)
    draw(page, "夜空のロケット")
    expect(button(page, JAPANESE.cancel)).to_have_count(2)
    shot(page, "6_two_jobs")
    other = visit(page.url, **PHONE)
    expect(button(other, JAPANESE.cancel)).to_have_count(2)
    for left in (1, 0):
        button(other, JAPANESE.cancel).first.click()
        expect(button(other, JAPANESE.cancel)).to_have_count(left)
    expect(page.get_by_text(JAPANESE.status["cancelled"])).to_have_count(2)
    stranger = visit()
    expect(stranger.get_by_text(JAPANESE.no_jobs)).to_be_visible()


def test_what_is_being_typed_is_not_lost_while_a_job_is_followed_and_ends(visit: Visit) -> None:
    page = visit()
    last_long(page, pictures=1)
    draw(page)
    expect(button(page, JAPANESE.cancel)).to_be_visible()
    field(page, JAPANESE.prompt).press_sequentially("と黒い猫")
    expect(finished(page)).to_be_visible(timeout=LONG_MS)
    page.wait_for_timeout(1000)
    expect(field(page, JAPANESE.prompt)).to_have_value(f"{APPLE}と黒い猫")
    field(page, JAPANESE.prompt).blur()
    expect(field(page, JAPANESE.english)).to_have_value(re.compile("cat"))  # a translation replaces what stands there
    field(page, JAPANESE.english).fill("my own words")
    button(page, JAPANESE.language).click()
    expect(page.get_by_text(ENGLISH.tagline)).to_be_visible()
    expect(field(page, ENGLISH.english)).to_have_value("my own words")
    shot(page, "7_english")
    page.reload()
    expect(page.get_by_text(ENGLISH.tagline)).to_be_visible()


def test_what_was_being_typed_at_a_refresh_is_there_again(visit: Visit) -> None:
    page = visit()
    expect(page.get_by_text(JAPANESE.no_jobs)).to_be_visible()
    field(page, JAPANESE.prompt).press_sequentially("黒い猫")  # and nothing else: the page has not been told
    page.reload()
    expect(field(page, JAPANESE.prompt)).to_have_value("黒い猫")
    expect(field(page, JAPANESE.english)).to_have_value("a black cat")
    field(page, JAPANESE.english).press_sequentially(" at night")
    page.reload()
    expect(field(page, JAPANESE.english)).to_have_value("a black cat at night")
    expect(page.get_by_text(JAPANESE.translated_by["edited"])).to_be_visible()


def test_a_page_server_that_is_replaced_loses_nothing(visit: Visit, service: Service) -> None:
    page = visit()
    field(page, JAPANESE.prompt).fill("黒い猫")
    field(page, JAPANESE.prompt).blur()
    expect(field(page, JAPANESE.english)).to_have_value("a black cat")
    field(page, JAPANESE.english).fill("a blue cat")
    field(page, JAPANESE.prompt).press_sequentially("と")
    service.end("frontend_streamlit", signal.SIGTERM)
    with page.expect_websocket(timeout=60_000):
        service.start("frontend_streamlit")
        service.wait("frontend_streamlit")
    for view in (JAPANESE.gallery_view, JAPANESE.draw_view):
        page.get_by_role("radio", name=view).or_(button(page, view)).first.click()
    expect(page.get_by_text(JAPANESE.english_kept)).to_be_visible()
    expect(field(page, JAPANESE.prompt)).to_have_value("黒い猫と")
    expect(field(page, JAPANESE.english)).to_have_value("a blue cat")


def test_a_page_where_nothing_runs_is_silent(visit: Visit) -> None:
    page = visit()
    expect(page.get_by_text(JAPANESE.no_jobs)).to_be_visible()
    settle(page)
    page.wait_for_timeout(2000)
    heard: list[str] = []
    page.on("request", lambda request: heard.append(request.url))
    messages = page.context.new_cdp_session(page)
    messages.send("Network.enable")
    messages.on("Network.webSocketFrameReceived", lambda _: heard.append("message"))
    page.wait_for_timeout(4000)
    assert heard == []


def test_the_gallery_shows_opens_finds_saves_and_deletes(visit: Visit, link: str, service: Service) -> None:
    page = visit(link)
    expect(finished(page)).to_have_count(3, timeout=LONG_MS)
    shot(page, "8_three_pictures")
    page.get_by_role("radio", name=JAPANESE.gallery_view).or_(button(page, JAPANESE.gallery_view)).click()
    thumbnails = page.locator("[class*=st-key-card_] img")
    expect(thumbnails).to_have_count(3)
    shot(page, "9_gallery")
    field(page, JAPANESE.search).fill("猫")
    field(page, JAPANESE.search).press("Enter")
    expect(page.get_by_text("合う絵はありません")).to_be_visible()
    field(page, JAPANESE.search).fill("apple")
    field(page, JAPANESE.search).press("Enter")
    expect(thumbnails).to_have_count(3)

    page.locator("[class*=st-key-open_]").first.get_by_role("button").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator("img")).to_be_visible()
    shot(page, "10_large")
    with page.expect_download() as download:
        dialog.get_by_role("button", name=JAPANESE.download).click()
    assert re.fullmatch(r"\d{8}T\d{6}_[0-9a-f]{32}_2\.png", download.value.suggested_filename)
    [png] = service.data.glob(f"gallery/*/{download.value.suggested_filename}")
    assert download.value.path().read_bytes() == png.read_bytes()
    dialog.get_by_role("button", name=JAPANESE.delete).click()
    expect(dialog.get_by_text(JAPANESE.delete_question)).to_be_visible()
    shot(page, "11_delete")
    dialog.get_by_role("button", name=JAPANESE.delete_yes).click()
    expect(page.get_by_text(JAPANESE.page_of.format(1, 1, 2))).to_be_visible()
    for _ in range(2):
        with page.expect_download() as download:
            button(page, JAPANESE.zip).click()
        assert download.value.suggested_filename == "kotoe.zip"
        with zipfile.ZipFile(download.value.path()) as archive:
            left = sorted(path.name for path in png.parent.iterdir())
            assert sorted(archive.namelist()) == left
            assert archive.read(left[0]) == (png.parent / left[0]).read_bytes()

    page.locator("[class*=st-key-open_]").first.get_by_role("button").click()
    dialog.get_by_role("button", name=JAPANESE.use_settings).click()
    expect(field(page, JAPANESE.prompt)).to_have_value(APPLE)
    expect(field(page, JAPANESE.english)).to_have_value(ENGLISH_APPLE)
    expect(finished(page)).to_have_count(3)
    page.set_viewport_size({"width": 1000, "height": 1120})
    page.mouse.move(5, 5)
    shot(page, "18_page")


def test_nothing_is_wider_than_a_phone(visit: Visit, link: str) -> None:
    page = visit(link, **PHONE)

    def check(name: str) -> None:
        page.wait_for_timeout(300)
        shot(page, name)
        wide = """() => [...document.querySelectorAll('*')].filter(element => {
            const box = element.getBoundingClientRect()
            return box.width > 0 && (box.right > innerWidth + 1 || box.left < -1)
        }).map(element => element.outerHTML.slice(0, 200))"""
        assert page.evaluate(wide) == []

    expect(finished(page)).to_have_count(3, timeout=LONG_MS)
    page.get_by_text(SETTINGS.ja, exact=True).click()
    expect(field(page, NEGATIVE.ja)).to_be_visible()
    check("12_phone_settings")
    page.get_by_text(SETTINGS.ja, exact=True).click()
    finished(page).first.scroll_into_view_if_needed()
    check("13_phone_pictures")
    page.get_by_role("radio", name=JAPANESE.gallery_view).or_(button(page, JAPANESE.gallery_view)).click()
    expect(page.locator("[class*=st-key-card_] img").first).to_be_visible()
    check("14_phone_gallery")
    page.locator("[class*=st-key-open_]").first.get_by_role("button").click()
    expect(page.get_by_role("dialog").locator("img")).to_be_visible()
    check("15_phone_large")


def test_a_backend_that_dies_in_the_middle_is_told_and_its_job_is_finished_after_its_return(
    visit: Visit, service: Service
) -> None:
    page = visit()
    last_long(page, pictures=3)
    draw(page)
    expect(page.get_by_text(JAPANESE.status["running"])).to_be_visible()
    service.end("backend_gpu", signal.SIGKILL)
    expect(page.get_by_text(JAPANESE.errors[BackendUnavailable])).to_be_visible()
    shot(page, "16_backend_away")
    service.start("backend_gpu")
    expect(finished(page)).to_have_count(3, timeout=LONG_MS)
    expect(page.get_by_text(JAPANESE.errors[BackendUnavailable])).to_have_count(0)
    expect(field(page, JAPANESE.prompt)).to_have_value(APPLE)
    shot(page, "17_backend_back")
