"""The reference of the settings is current and complete, and settings that pages tell are taken."""

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from core.settings import Settings, load
from core.settings_reference import settings_reference

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def sections(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        for field in annotation.model_fields.values():
            yield from sections(field.annotation)
    for part in get_args(annotation):
        yield from sections(part)


def rows() -> list[list[str]]:
    lines = settings_reference().splitlines()
    return [line.strip("| ").split(" | ") for line in lines if line.startswith("| `") and line.count(" | ") == 5]


def test_the_settings_reference_is_current():
    assert (ROOT / "docs/settings.md").read_text("utf-8") == settings_reference(), "run make docs"


def test_every_key_of_the_model_is_told():
    keys = {
        name
        for section in set(sections(Settings))
        for name, field in section.model_fields.items()
        if not any(sections(field.annotation))
    }
    assert len(keys) > 60
    assert keys == {row[0].strip("`") for row in rows()}


def test_every_key_has_a_type_and_words():
    assert [row for row in rows() if not row[1].strip() or not row[5].strip()] == []


def test_a_key_is_told_with_unit_default_and_bounds():
    interval = "| `interval_seconds` | number | s | `10.0` | at least 0.5, at most 300 | between two readings"
    assert f"\n{interval}" in settings_reference()
    assert "\n| `capex` | number | money | required, such as `15000.0` | at least 0 | purchase price |" in (
        settings_reference()
    )


def settings_told() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        blocks = re.findall(r"^( *)```toml\n(.*?)^ *```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)
        yield from ((f"{page.name} {number}", textwrap.dedent(text)) for number, (_, text) in enumerate(blocks, 1))


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in settings_told()])
def test_settings_that_a_page_tells_are_taken(text, tmp_path):
    file = tmp_path / "vatio.toml"
    file.write_text(text)
    load(file)


def test_recipes_are_among_them():
    assert sum(name.startswith("recipes.md") for name, _ in settings_told()) > 8
