"""The site, built once for all tests that look at it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from support import requirements

from uanref import docs

CHECKOUT = Path(__file__).parents[2]
sys.path.append(str(CHECKOUT / "docs" / "_ext"))  # the parts of the site that are made at build time


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The folder of the built site; warnings are errors."""
    for module in docs.NEEDED:
        requirements.require(module, extra="docs")
    return docs.build(CHECKOUT, tmp_path_factory.mktemp("site"), strict=True).parent
