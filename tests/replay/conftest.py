"""One browser for all tests of the replay's page."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support import browser
from support.replay_page import Page


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser.opened(1366, 768) as driver:
        yield Page(driver, tmp_path_factory.mktemp("pages"))


@pytest.fixture
def page(shared: Page) -> Iterator[Page]:
    """The shared browser; after each test: no error, no violated policy, no request but for the page itself."""
    browser.resize(shared.driver, 1366, 768)
    for log in ("performance", "browser"):
        shared.driver.get_log(log)
    yield shared
    assert shared.driver.get_log("browser") == []
    requested = browser.requests(browser.messages(shared.driver))
    assert all(url.endswith(".html") for url in requested if url.startswith("file:")), requested
