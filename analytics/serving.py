"""What the labels of deployments and probes say of how they belong together."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd


def is_gateway(labels: Mapping[str, str]) -> bool:
    """Whether a deployment passes requests on: its tokens are those of the servers behind it."""
    return labels.get("role") == "gateway"


def are_gateways(entities: pd.DataFrame) -> pd.Series[bool]:
    """The same of every row of a frame as ``queries.entities`` gives it."""
    return pd.Series([is_gateway(labels) for labels in entities["labels"]], index=entities.index, dtype="bool")


def asks(probe: Mapping[str, str], deployment: Mapping[str, str]) -> bool:
    """Whether a probe asks this model at this server, by the labels of both."""
    address, url = (labels.get("url", "").rstrip("/") for labels in (deployment, probe))
    same_server = bool(address) and f"{url}/".startswith(f"{address}/")
    return same_server and probe.get("model") == deployment.get("model")
