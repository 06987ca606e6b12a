"""What is chosen stands in the address as in English, whatever language it is chosen in."""

from __future__ import annotations

from pathlib import Path

from streamlit.testing.v1 import AppTest

from tests.pages.conftest import ROOT


def opened(**parameters: str) -> AppTest:
    test = AppTest.from_file(str(ROOT / "pages" / "energy/power.py"), default_timeout=30)
    for name, value in parameters.items():
        test.query_params[name] = value
    return test.run()


def test_a_link_chooses_and_its_words_are_those_of_the_language(full: Path):
    test = opened(**{"language": "es", "power-by": "vendor"})
    (buttons,) = test.button_group
    assert "fabricante" in buttons.options
    assert buttons.value == "vendor"
    assert test.query_params["power-by"] == "vendor"


def test_the_address_holds_what_is_chosen_but_not_what_is_usual(full: Path):
    test = opened()
    for chosen, kept in (("vendor", "vendor"), ("model", None)):
        test.button_group[0].set_value(chosen).run()
        assert test.query_params.get("power-by") == kept


def test_nonsense_in_a_link_chooses_the_usual(full: Path):
    assert opened(**{"power-by": "<script>"}).button_group[0].value == "model"
