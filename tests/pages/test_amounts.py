"""Tables of amounts: people see the currency of the page, files keep USD."""

from __future__ import annotations

from datetime import date

import pandas as pd

from pages.cost.amounts import in_currency
from pages.shared.money import Money
from pages.shared.tables import as_csv

FRAME = pd.DataFrame({"type": ["a"], "node_hour_usd": [16.0], "nodes": [1]})
TITLES = {"node_hour_usd": "Node-hour"}


def test_an_amount_is_shown_in_the_currency_and_stays_in_dollars_in_the_file():
    frame, columns = in_currency(FRAME, Money("CLP", 930.0, date(2026, 1, 1)), TITLES)
    assert list(frame) == ["type", "node_hour_usd", "node_hour_clp", "nodes"]
    assert columns["node_hour_usd"] is None
    assert columns["node_hour_clp"]["label"] == "Node-hour (CLP)"
    assert as_csv(frame).decode().splitlines() == ["type,node_hour_usd,node_hour_clp,nodes", "a,16.0,14880.0,1"]


def test_in_dollars_nothing_is_hidden_or_added():
    frame, columns = in_currency(FRAME, Money(), TITLES)
    pd.testing.assert_frame_equal(frame, FRAME)
    assert columns["node_hour_usd"]["label"] == "Node-hour (USD)"
