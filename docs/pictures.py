"""Take the pictures of offline pages that README and site show anew: ``python docs/pictures.py``.

Writes ``docs/_static/explorer.png``. Needs the ``browser`` extra and Chromium.
"""

from __future__ import annotations

import base64
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from uanref import files
from uanref.derivations import find
from uanref.stepping import explorer

CHECKOUT = Path(__file__).parents[1]
WIDTH, HEIGHT = 1366, 768
FORWARD = 12
"""How many steps the walk has gone when the picture is taken: in UAN, where each component centres x."""


def take(driver: Any, page: Path, presses: int) -> bytes:
    """Return a picture of a page after some steps forward, at twice the resolution."""
    driver.get(page.as_uri())
    for _ in range(presses):
        driver.find_element("id", "forward").click()
    time.sleep(3)  # proofs are computed, edges have moved
    clip = {"x": 0, "y": 0, "width": WIDTH, "height": HEIGHT, "scale": 2}
    return base64.b64decode(driver.execute_cdp_cmd("Page.captureScreenshot", {"clip": clip})["data"])


def main() -> None:
    """Take each picture."""
    sys.path.insert(0, str(CHECKOUT / "tests"))
    from support import browser

    with tempfile.TemporaryDirectory() as folder, browser.opened(WIDTH, HEIGHT) as driver:
        page = Path(folder) / "uan.html"
        explorer.write(page, explorer.page(find("uan")))
        files.write_bytes(CHECKOUT / "docs" / "_static" / "explorer.png", take(driver, page, FORWARD))


if __name__ == "__main__":
    main()
