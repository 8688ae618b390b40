"""The Content-Security-Policy that a page carries itself: its own scripts and styles count, by digest, nothing else."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable


def policy(styles: Iterable[str], scripts: Iterable[str]) -> str:
    """Return the policy of an offline page, for the ``content`` of its ``<meta http-equiv>``.

    Nothing is fetched: images and fonts are ``data:`` alone; no form, no base, no plugin, no frame of another origin.
    Neither ``style="..."`` nor ``onclick="..."`` in markup counts: scripts set styles through ``element.style``.

    Args:
        styles: the text of every ``<style>`` element, to the letter.
        scripts: the text of every ``<script>`` element that shall run, to the letter.
    """
    return "; ".join(
        (
            "default-src 'none'",
            f"style-src {_digests(styles)}",
            f"script-src {_digests(scripts)}",
            "img-src data:",
            "font-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def _digests(texts: Iterable[str]) -> str:
    found = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts]
    return " ".join(f"'sha256-{digest}'" for digest in found) or "'none'"
