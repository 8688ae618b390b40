"""The site, built once for all tests that look at it."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import requirements

from uanref import docs


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The folder of the built site; warnings are errors."""
    for module in docs.NEEDED:
        requirements.require(module, extra="docs")
    return docs.build(Path(__file__).parents[2], tmp_path_factory.mktemp("site"), strict=True).parent
