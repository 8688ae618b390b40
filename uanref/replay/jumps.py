"""The explorer's pages that a replay carries, to step through one of its moments.

A page of the explorer is mostly scripts and styles, which all have in common: these are kept once, and the page's own
scripts put a page together when it is asked for.
"""

from __future__ import annotations

import base64
import functools
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from uanref.derivations import find
from uanref.replay.moments import components, derivation_of
from uanref.stepping import explorer
from uanref.training.recording import NormRecording, Recording

PLACE = "\ue000{}\ue000"
"""What stands in a page's text for one of the common texts: a character that no page has, the text's number, again."""


@dataclass(frozen=True)
class Jumps:
    """Pages of the explorer in pieces.

    Attributes:
        pages: by :func:`key`, a page's text with places for what the pages have in common.
        styles, scripts: what they have in common, once each; the policy of a page that shows them has to allow them.
    """

    pages: dict[str, str]
    styles: list[str]
    scripts: list[str]

    def packed(self) -> str:
        """Return ``texts``, the styles first, and ``pages`` as JSON, deflated, in base64: a fifth of its length."""
        texts = [*self.styles, *self.scripts]
        told = json.dumps({"texts": texts, "pages": self.pages}, ensure_ascii=False, separators=(",", ":"))
        return base64.b64encode(zlib.compress(told.encode(), 9)).decode()


def key(layer: NormRecording) -> str | None:
    """Return which page a layer's moments are stepped through on; None where it has no derivation."""
    name = derivation_of(layer)
    return None if name is None else f"{name} {layer.samples.shape[1]} {components(layer)}"


@functools.lru_cache(maxsize=8)
def example_page(name: str, samples: int, components: int) -> str:
    """Return the explorer's page of one channel, with example numbers: a moment's take their place."""
    derivation = find(name)
    sizes = {"m": samples, "c": 1, "k": components}
    return explorer.page(derivation, derivation.example(**{axis: sizes[axis] for axis in derivation.sizes}))


def jumps(recordings: Sequence[Recording]) -> Jumps:
    """Return the pages that the layers of the recordings need; none for a mixture of more components than one shows."""
    made = Jumps({}, [explorer.style()], explorer.scripts())
    for layer in (layer for one in recordings for layer in one.layers):
        name, place = derivation_of(layer), key(layer)
        if name is None or place is None or place in made.pages:
            continue
        try:
            page = example_page(name, layer.samples.shape[1], components(layer))
        except ValueError:  # so many components that no reader could follow: the replay is shown without the way in
            continue
        for i, text in enumerate((*made.styles, *made.scripts)):
            page = page.replace(text, PLACE.format(i))
        made.pages[place] = page
    return made if made.pages else Jumps({}, [], [])
