"""What every picture is: layers over each other in the order given, and the frames that they show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import pandas as pd

alt.theme.enable("none")  # sizes are each chart's own, or the page's


class Layered(alt.LayerChart):
    """Layers as they are given.

    Altair's own goes through all layers for what they share and copies each of them four times, with every copy of the
    chart again, and a chart is checked against Vega-Lite's schema each time it is written down. Of a page with ten
    charts that is more time than reading what they show. Ours have nothing to be moved, and tests check them all.
    """

    def __init__(self, layer: Sequence[Any] = (), **kwargs: Any) -> None:  # noqa: ANN401  as Altair's
        super(alt.LayerChart, self).__init__(layer=list(layer), **kwargs)

    def to_dict(self, validate: bool = False, **kwargs: Any) -> dict[str, Any]:  # noqa: ANN401  as Altair's
        """The specification, by default as it was built: unchecked."""
        return super().to_dict(validate, **kwargs)

    def apart(self) -> tuple[dict[str, Any], dict[str, pd.DataFrame]]:
        """The specification, and apart from it what it shows, by name.

        A frame has the name of its layer, or a number that tells its place, and none that tells its content: of a chart
        that is drawn again with later data, only the frames differ, so that a browser moves what it has drawn.
        """
        frames: dict[str, pd.DataFrame] = {}
        names: dict[int, str] = {}
        layers = []
        for layer in self.layer:
            named = layer.copy(deep=False)
            if isinstance(layer.data, pd.DataFrame):
                own = layer.name if isinstance(layer.name, str) else f"frame{len(frames)}"
                name = names.setdefault(id(layer.data), own)
                frames[name] = layer.data
                named.data = alt.NamedData(name)
            layers.append(named)
        bare: Layered = self.copy(deep=False)
        bare.layer = layers
        return bare.to_dict(), frames

    def whole(self) -> dict[str, Any]:
        """The specification with what it shows in it, as rows."""
        spec, frames = self.apart()
        return {**spec, "datasets": {name: alt.to_values(frame)["values"] for name, frame in frames.items()}}
