"""What every picture is: layers in one frame, drawn over each other in the order given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt


class Layered(alt.LayerChart):
    """Layers as they are given; data of the first that others show too is told once.

    Altair's own goes through all layers for what they share and copies each of them four times, with every copy of the
    chart again, and a chart is checked against Vega-Lite's schema each time it is written down. Of a page with ten
    charts that is more time than reading what they show. Ours have nothing to be moved, and tests check them all.
    """

    def __init__(self, data: Any = alt.Undefined, layer: Sequence[Any] = (), **kwargs: Any) -> None:  # noqa: ANN401  as Altair's
        if data is alt.Undefined and layer:
            data = layer[0].data
            layer = [_without_data(one) if one.data is data else one for one in layer]
        super(alt.LayerChart, self).__init__(data=data, layer=list(layer), **kwargs)

    def to_dict(self, validate: bool = False, **kwargs: Any) -> dict[str, Any]:  # noqa: ANN401  as Altair's
        """The specification, by default as it was built: unchecked."""
        return super().to_dict(validate, **kwargs)


def _without_data(layer: alt.Chart) -> alt.Chart:
    copied: alt.Chart = layer.copy(deep=False)
    copied.data = alt.Undefined
    return copied
