"""A browser for the tests of the explorer's page, and a way to run its scripts alone."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support import requirements

QUIET = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
"""Without a window, and without anything that Chromium says to its makers by itself."""

LOCAL = ("file:", "data:", "blob:", "chrome:", "about:")
"""What requests for no network begin with; ``chrome:`` are the browser's own pages, such as a new tab's."""


def chromium() -> str | None:
    """Return Chromium's path, None where it is not installed."""
    return next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )


def require_browser() -> Any:
    """Return selenium's ``webdriver``; skip (on CI: fail) where Chromium or its driver is missing."""
    if chromium() is None or shutil.which("chromedriver") is None:
        requirements.skip("Chromium or its driver is not installed: apt install chromium chromium-driver")
    try:
        from selenium import webdriver
    except ImportError:
        requirements.skip('selenium is not installed: pip install ".[browser]"')
    return webdriver


@contextmanager
def opened(width: int = 1280, height: int = 900, dark: bool = False) -> Iterator[Any]:
    """Yield a driver of a fresh browser, which logs its console and everything that it loads."""
    webdriver = require_browser()
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = chromium()
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with tempfile.TemporaryDirectory(prefix="uanref-browser-", ignore_cleanup_errors=True) as profile:
        for flag in (*QUIET, f"--user-data-dir={profile}", f"--window-size={width},{height}"):
            options.add_argument(flag)
        driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
        try:
            resize(driver, width, height, dark)
            yield driver
        finally:
            driver.quit()


def resize(driver: Any, width: int, height: int, dark: bool = False) -> None:
    """Give the page another size, that of a phone below 600, and another preferred color scheme."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})


def until(driver: Any, condition: Callable[[], Any], what: str, seconds: float = 60.0) -> Any:
    """Wait for ``condition`` and return what it gave."""
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(driver, seconds).until(lambda _: condition(), what)


def one(driver: Any, selector: str) -> Any:
    """Return the first element that fits; wait for one where a page is still being built."""
    return until(driver, lambda: (driver.find_elements("css selector", selector) or [None])[0], selector)


def reload(driver: Any) -> None:
    """Load the page anew, and wait until it is another document: a bare ``refresh`` can return on the old one."""
    driver.execute_script("window.old = true")
    driver.refresh()
    until(driver, lambda: driver.execute_script("return !window.old && document.readyState === 'complete'"), "a reload")


def messages(driver: Any) -> list[dict[str, Any]]:
    """Return what the browser said of its network since this was last asked."""
    return [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]


def requests(told: list[dict[str, Any]]) -> list[str]:
    """Return the addresses that :func:`messages` say were asked for; none may lie beyond this machine."""
    found = [event["params"]["request"]["url"] for event in told if event["method"] == "Network.requestWillBeSent"]
    assert found, "the log must at least hold the page itself"
    assert all(url.startswith(LOCAL) for url in found), found
    return found


def run_javascript(code: str) -> str:
    """Return what ``code`` leaves in ``globalThis.result``, a string: by node, or by a headless Chromium.

    Skips (on CI: fails) where neither is installed.
    """
    with tempfile.TemporaryDirectory(prefix="uanref-script-", ignore_cleanup_errors=True) as folder:
        if node := shutil.which("node"):
            script = Path(folder) / "script.js"
            script.write_text(code + "\nprocess.stdout.write(globalThis.result);\n", "utf-8")
            return _output([node, str(script)])
        if (browser := chromium()) is None:
            requirements.skip("neither node nor Chromium is installed: apt install nodejs, or chromium")
        page = Path(folder) / "page.html"
        show = "document.querySelector('pre').textContent = globalThis.result;"
        page.write_text(f'<!doctype html><meta charset="utf-8"><pre></pre><script>\n{code}\n{show}\n</script>', "utf-8")
        shown = _output([browser, *QUIET, f"--user-data-dir={folder}/profile", "--dump-dom", page.as_uri()])
        found = re.search(r"<pre>(.*?)</pre>", shown, re.DOTALL)
        assert found, shown[:2000]
        return html.unescape(found[1])


def _output(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=120, check=False)
    assert done.returncode == 0, f"{command[0]} failed: {done.stderr[-2000:]}"
    return done.stdout
