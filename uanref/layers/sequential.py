"""Layers one after the other."""

from __future__ import annotations

from collections.abc import Iterator

from uanref.backend import Array
from uanref.layers.layer import Layer
from uanref.layers.parameter import Parameter, tied
from uanref.layers.tree import held


class Sequential(Layer):
    """Layers one after the other: ``y = f_n(... f_2(f_1(x)))``.

    Backward is the chain rule read from the end: dL/dx = f_1'(f_2'(... f_n'(dL/dy))), where
    each ``backward`` multiplies by its layer's Jacobian, transposed. Children are named by
    position: ``"0.weight"``. Without any layer it is the identity.

    Raises:
        TypeError: an argument is no Layer.
        ValueError: a layer with parameters, or a Parameter (tied weights), occurs twice.
    """

    def __init__(self, *layers: Layer) -> None:
        super().__init__()
        for layer in layers:
            if not isinstance(layer, Layer):
                raise TypeError(f"Sequential takes layers, got {type(layer).__name__}: pass Sequential(a, b, ...)")
        refuse_shared("Sequential", *layers)
        self.layers = list(layers)

    def children(self) -> Iterator[tuple[str, Layer]]:
        """Yield the layers with their positions as names."""
        for i, layer in enumerate(self.layers):
            yield str(i), layer

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, index: int) -> Layer:
        return self.layers[index]

    def forward(self, x: Array) -> Array:
        """Apply the layers in order; shapes are theirs."""
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, dy: Array) -> Array:
        """Apply the layers' backward passes in reverse order."""
        for layer in reversed(self.layers):
            dy = layer.backward(dy)
        return dy


def refuse_shared(name: str, *layers: Layer) -> None:
    """Raise ValueError if a layer with parameters, or a Parameter, stands in two places of ``layers``.

    Gradients are assigned, so the second backward pass would silently overwrite the first one's. To share weights,
    hold the layer once and call it twice inside ``backend.accumulating()``.
    """
    seen: set[int] = set()
    owners: dict[int, str] = {}
    for layer in layers:
        for _, inner in layer.modules():
            own = dict(held(inner, Parameter))
            if own and id(inner) in seen:
                raise ValueError(
                    f"{name} got the same {type(inner).__name__} in two places: its second backward pass would "
                    "overwrite the first one's gradient; make two layers"
                )
            seen.add(id(inner))
            for attribute, parameter in own.items():
                place = f"{attribute} of a {type(inner).__name__}"
                if id(parameter) in owners:
                    raise ValueError(tied(name, owners[id(parameter)], place))
                owners[id(parameter)] = place
