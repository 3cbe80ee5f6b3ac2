"""Signing in through an OpenID provider, in a real browser; provider and backend are stand-ins on loopback."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from frontend_streamlit.clients.identity import owner_of_account
from frontend_streamlit.texts.japanese import JAPANESE
from tests.browser.conftest import SCREENSHOTS, Service, settle
from tests.browser.oidc_provider import CLIENT_ID, CLIENT_SECRET, Provider, new_key, serve_provider
from tests.browser.test_browser import APPLE, button, cards, draw, field
from tests.frontend_streamlit.fake_backend import FakeBackend, serve
from tests.loopback import free_ports

ACCOUNTS = {
    "anna": {"email": "anna@example.com", "email_verified": True},
    "ben": {"email": "Ben@Kotoe.example", "email_verified": True},
    "mallory": {"email": "mallory@example.com", "email_verified": True},
    "liar": {"email": "anna@example.com", "email_verified": False},
}
Visit = Callable[[], Page]


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with serve_provider(Provider(ACCOUNTS)) as served:
        yield served


@pytest.fixture(scope="module")
def backend() -> Iterator[FakeBackend]:
    with serve(FakeBackend()) as fake:
        yield fake


@pytest.fixture(scope="module")
def page_service(
    tmp_path_factory: pytest.TempPathFactory, provider: Provider, backend: FakeBackend
) -> Iterator[Service]:
    """The page alone, set up for the provider as the cloud does it."""
    folder = tmp_path_factory.mktemp("sign_in")
    service = Service(folder, free_ports("backend_gpu", "frontend_streamlit"))
    secrets = Path(folder / "secrets.toml")
    secrets.write_text(
        f"""[auth]
redirect_uri = "{service.url}/oauth2callback"
cookie_secret = "{"c" * 64}"
client_id = "{CLIENT_ID}"
client_secret = "{CLIENT_SECRET}"
server_metadata_url = "{provider.url}/.well-known/openid-configuration"
""",
        encoding="utf-8",
    )
    service.settings = {
        "FRONTEND_BACKEND_URL": backend.url,
        "FRONTEND_LOGIN": "oidc",
        "FRONTEND_ALLOWED_EMAILS": "anna@example.com, @kotoe.example",
        "STREAMLIT_SECRETS_FILES": str(secrets),
    }
    service.start("frontend_streamlit")
    try:
        service.wait("frontend_streamlit")
        yield service
    finally:
        service.end("frontend_streamlit", signal.SIGTERM)


@pytest.fixture
def page(browser: Browser, page_service: Service, backend: FakeBackend) -> Iterator[Page]:
    backend.jobs.clear()
    backend.requests.clear()
    context = browser.new_context(locale="ja-JP")
    opened = context.new_page()
    opened.goto(page_service.url)
    yield opened
    context.close()


def sign_in(page: Page, account: str) -> None:
    expect(page.get_by_text(JAPANESE.sign_in_text)).to_be_visible()
    button(page, JAPANESE.sign_in).click()
    page.get_by_role("link", name=account).click()


def test_accounts_sign_in_and_out_and_see_only_what_is_theirs(
    page: Page, backend: FakeBackend, provider: Provider
) -> None:
    expect(page.get_by_text(JAPANESE.sign_in_text)).to_be_visible()
    assert not backend.requests
    page.screenshot(path=SCREENSHOTS / "19_sign_in.png")
    sign_in(page, "anna")
    settle(page)
    draw(page)
    expect(cards(page)).to_have_count(1)
    assert [job["request"]["owner"] for job in backend.jobs] == [owner_of_account(provider.url, "anna")]
    page.reload()
    expect(cards(page)).to_have_count(1)
    expect(field(page, JAPANESE.prompt)).to_have_value(APPLE)

    button(page, JAPANESE.sign_out).click()
    sign_in(page, "ben")
    settle(page)
    expect(page.get_by_text(JAPANESE.no_jobs)).to_be_visible()
    expect(field(page, JAPANESE.prompt)).to_have_value("")
    draw(page, "黒い猫")
    expect(cards(page)).to_have_count(1)
    assert backend.jobs[0]["request"]["owner"] == owner_of_account(provider.url, "ben")

    button(page, JAPANESE.sign_out).click()
    sign_in(page, "anna")
    expect(cards(page)).to_contain_text(APPLE)
    expect(field(page, JAPANESE.prompt)).to_have_value(APPLE)
    sent = str(backend.requests)
    assert not [account for account in ACCOUNTS.values() if str(account["email"]) in sent]


@pytest.mark.parametrize("account", ["mallory", "liar"])
def test_an_account_that_is_not_on_the_list_is_told_and_can_take_another(
    page: Page, backend: FakeBackend, account: str
) -> None:
    sign_in(page, account)
    expect(page.get_by_text(JAPANESE.not_on_the_list.format(ACCOUNTS[account]["email"]))).to_be_visible()
    page.screenshot(path=SCREENSHOTS / f"20_{account}.png")
    expect(button(page, JAPANESE.draw)).to_have_count(0)
    assert not backend.requests
    button(page, JAPANESE.sign_out).click()
    sign_in(page, "ben")
    expect(page.get_by_text(JAPANESE.no_jobs)).to_be_visible()


def test_a_token_that_the_provider_did_not_sign_lets_nobody_in(
    page: Page, backend: FakeBackend, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider, "signs_with", new_key())
    sign_in(page, "anna")
    expect(page.get_by_text(JAPANESE.sign_in_text)).to_be_visible()
    assert not backend.requests
