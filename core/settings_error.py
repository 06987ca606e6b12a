"""One line for a refused setting: where it came from, which key, what was expected.

Whatever was given for an address or for the name of a secret is never repeated: people paste
passwords and keys there.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

PREFIX = "VATIO_"
_KINDS = ("rented", "owned")
_UNREPEATABLE = ("url", "api_key_env", "metrics_path")

# What pydantic calls an error, and how a person says it. `{}` are the error's own terms.
_EXPECTED = {
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "finite_number": "a finite number",
    "float_type": "a number",
    "float_parsing": "a number",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "literal_error": "{expected}",
    "string_type": "text in quotes",
    "string_too_short": "at least {min_length} character",
    "string_too_long": "at most {max_length} characters",
    "too_short": "at least {min_length} entry",
    "path_type": "a path in quotes",
    "tuple_type": "a list",
    "model_type": "a table of keys",
    "model_attributes_type": "a table of keys",
}


def variable(where: list[str]) -> str:
    """The environment variable that sets a key."""
    return PREFIX + "__".join(where).upper()


@dataclass(frozen=True, slots=True)
class Origins:
    """Where settings came from: the file's content, and the names of the variables that are set."""

    file: str
    content: Mapping[str, Any]
    variables: Collection[str]

    def of(self, where: list[str]) -> str:
        """The variable that set a key, a part of it or what it is part of; else the file; both where they met."""
        if variable(where) in self.variables:
            return f"environment {variable(where)}"
        above = {variable(where[:n]) for n in range(1, len(where))} & set(self.variables)
        below = {v for v in self.variables if v.startswith(variable(where) + "__")}
        environment = f"environment {', '.join(sorted(above | below))}"
        if not above | below:
            return self.file
        return f"{self.file} with {environment}" if self._in_file(where) else environment

    def _in_file(self, where: list[str]) -> bool:
        node: object = self.content
        for part in where:
            if not isinstance(node, Mapping) or part not in node:
                return False
            node = node[part]
        return True


def one_line(exc: ValidationError, settings: type[BaseModel], origins: Origins) -> str:
    """The first of the errors, and how many more there are."""
    # A misspelt key is also a missing one: the spelling is what to say.
    first, *others = sorted(exc.errors(include_url=False), key=lambda error: error["type"] != "extra_forbidden")
    where = _keys(first["loc"])
    if first["type"].startswith("union_tag_"):
        where.append(_term(first, "discriminator"))
    more = f" (and {len(others)} more)" if others else ""
    return f"{origins.of(where)}: {'.'.join(where) or 'settings'}: {_complaint(first, where, settings)}{more}"


def _keys(location: tuple[int | str, ...]) -> list[str]:
    """The path of keys. Behind an index, pydantic adds the tag of a union, which is no key."""
    behind = zip((None, *location), location, strict=False)
    return [str(part) for before, part in behind if not (part in _KINDS and isinstance(before, int))]


def unknown_key(where: list[str], settings: type[BaseModel]) -> str:
    """The complaint about a key that does not exist, with the one that was probably meant."""
    near = difflib.get_close_matches(where[-1], _siblings(settings, where[:-1]), n=1)
    return "unknown key; " + (f"expected {near[0]}?" if near else "see vatio.example.toml")


def _complaint(error: ErrorDetails, where: list[str], settings: type[BaseModel]) -> str:
    kind = error["type"]
    if kind == "extra_forbidden":
        return unknown_key(where, settings)
    if kind == "missing":
        tag = next((part for part in error["loc"] if part in _KINDS), None)
        return "expected a value" + (f' (required when kind = "{tag}")' if tag else "")
    if kind.startswith("union_tag_"):
        tags = _term(error, "expected_tags") or ", ".join(_KINDS)
        return f"expected {where[-1]} = {tags.replace(', ', ' or ')}"
    if kind == "tuple_type" and _models_at(settings, where):
        return f"expected a list of tables: [[{'.'.join(where)}]] in TOML, JSON in {variable(where)}"
    if kind in _EXPECTED:
        wanted = _EXPECTED[kind].format_map(error.get("ctx", {}))
        return f"expected {wanted}{_given(error, where)}"
    return f"{error['msg'].removeprefix('Value error, ')}{_given(error, where)}"


def _term(error: ErrorDetails, name: str) -> str:
    return str(error.get("ctx", {}).get(name, "")).replace("'", "")


def _given(error: ErrorDetails, where: list[str]) -> str:
    """What was given, where it is a number or a short choice that cannot be a secret."""
    value = error.get("input")
    secretive = any(part in _UNREPEATABLE for part in where) or error["type"].startswith(
        ("model_", "tuple_", "string_")
    )
    return f", got {value!r}" if isinstance(value, str | int | float) and not secretive else ""


def _siblings(settings: type[BaseModel], where: list[str]) -> list[str]:
    """The keys that are known at a place."""
    return [name for model in _models_at(settings, where) for name in model.model_fields]


def _models_at(settings: type[BaseModel], where: list[str]) -> list[type[BaseModel]]:
    """The sections that may stand at a place: several where a union does."""
    models = [settings]
    for part in where:
        if not part.isdigit():
            annotations = [model.model_fields[part].annotation for model in models if part in model.model_fields]
            models = [section for annotation in annotations for section in _sections_in(annotation)]
    return models


def _sections_in(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [section for argument in get_args(annotation) for section in _sections_in(argument)]
