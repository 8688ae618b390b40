"""The replay's page in the words of a reader, for browser tests, and a mixture's curves by scipy."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from support import browser
from support import recordings as toy
from uanref import replay


class Page:
    """The page of some recordings, in the words of a reader."""

    def __init__(self, driver: Any, folder: Path) -> None:
        self.driver, self.folder = driver, folder

    def open(self, *recordings: Any, fragment: str = "") -> None:
        self.recordings = recordings
        path = self.folder / f"{abs(hash(tuple(id(one) for one in recordings)))}.html"
        path.write_text(replay.page(recordings), "utf-8")
        self.driver.get("about:blank")
        self.driver.get(path.as_uri() + fragment)

    def script(self, code: str, *args: Any) -> Any:
        return self.driver.execute_script(code, *args)

    def one(self, selector: str) -> Any:
        return browser.one(self.driver, selector)

    def all(self, selector: str) -> list[Any]:
        return list(self.driver.find_elements("css selector", selector))

    def press(self, *keys: str) -> None:
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def until(self, condition: Any, what: str) -> Any:
        return browser.until(self.driver, condition, what)

    def choose(self, name: str, text: str) -> None:
        from selenium.webdriver.support.ui import Select

        Select(self.one(f"#{name}")).select_by_visible_text(text)

    def drawn(self, run: int, kind: str) -> np.ndarray:
        """The points of a drawn curve, in pixels: ``(2, n)``."""
        path = self.one(f".run.run{run} .plot path.{kind}").get_attribute("d")
        return np.array([point.split() for point in path[1:].split("L")], float).T

    def scale(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """The x axis's ends and those of the panel of densities, in numbers."""
        film = self.script("return {x: replay.film.domain, y: replay.film.density}")
        return tuple(film["x"]), tuple(film["y"])

    def numbers(self, run: int) -> dict[str, float]:
        """The table of the moment: the column of a run, all digits."""
        rows = self.script(
            "return [...document.querySelectorAll('#table tbody tr')].map((row) => "
            "[row.querySelector('th').textContent, row.querySelectorAll('td')[arguments[0]].title])",
            run - 1,
        )
        return {name: float(text) for name, text in rows if text}

    def shot(self, name: str) -> None:
        if folder := os.environ.get("UANREF_SCREENSHOTS"):
            made = self.driver.execute_cdp_cmd("Page.captureScreenshot", {})
            Path(folder).mkdir(parents=True, exist_ok=True)
            Path(folder, f"{name}.png").write_bytes(base64.b64decode(made["data"]))


def mixture_at(layer: Any, t: int, c: int, xs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Densities of the components times their priors ``(K, n)``, the posterior ``(K, n)`` and y ``(n,)``, by scipy."""
    prior = toy.softmax(layer.prior_logits[t, :, c].astype(float))
    spread = np.log1p(np.exp(layer.raw_variance[t, :, c].astype(float))) + layer.eps
    means = layer.component_mean[t, :, c].astype(float)
    parts = np.stack([p * stats.norm.pdf(xs, m, np.sqrt(v)) for p, m, v in zip(prior, means, spread, strict=True)])
    posterior = parts / parts.sum(axis=0)
    hat = (xs - layer.moment_mean[t, :, c, None]) / np.sqrt(layer.moment_variance[t, :, c, None] + layer.eps)
    mixed = (posterior / np.sqrt(prior)[:, None] * hat).sum(axis=0) / np.sqrt(len(prior))
    return parts, posterior, layer.gamma[t, c] * mixed + layer.beta[t, c]
