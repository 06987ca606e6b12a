"""The seam between the source and the exporters: what a file about one exporter declares.

A file such as ``dcgm.py`` holds one ``Dialect`` constant: by what its pages are recognised, which series matter,
and what reads them. It does no fetching. What a reader yields goes to the store as it is, but for descriptions that
did not change, which the source leaves out, and for things that another target reports already.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from collectors.scrape.exposition import Page
from collectors.scrape.texts import presentable
from core.readings import Reading

_CONTAINER_ID = re.compile(r"[0-9a-f]{12}")  # what a container calls itself unless told otherwise


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One look at a target: what its page says, or the part of a federated page that is about one instance.

    Args:
        page: the series of the dialect, and of the others that the page speaks.
        at_ms: when that was so: as stamped on the page, else the time of the look.
        host: the machine, where the page does not tell.
        own_host: the name of the machine that looks.
        watched_since_ms: when this target was looked at for the first time, whether it answered or not.
        federated: a Prometheus handed the series on; the labels ``job`` and ``instance`` are its own.
    """

    page: Page
    at_ms: int
    host: str
    own_host: str
    watched_since_ms: int
    federated: bool = False


class DialectReader(Protocol):
    """What a dialect remembers of one target (and instance) from one look to the next."""

    def read(self, look: Look) -> Iterable[Reading]:
        """All that the page says, of any family: an ``Entity`` for each thing every time, samples, and more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """An exporter.

    Args:
        name: as people write it.
        marks: texts of which every page of this exporter holds one, and no page of another any; where it begins
            with a line break it stands at the beginning of a line.
        series: the names that are read.
        reader: makes the memory for one target.
    """

    name: str
    marks: tuple[str, ...]
    series: frozenset[str]
    reader: Callable[[], DialectReader]

    def speaks(self, body: bytes) -> bool:
        """Whether a page is of this exporter, or holds series of it. ``body`` begins with a line break."""
        return any(mark.encode() in body for mark in self.marks)


def said(labels: Mapping[str, str], *names: str) -> str:
    """The first of these labels that says something.

    Prometheus puts ``exported_`` before a label of the page that it has one of its own for, such as the pod of the
    exporter in ``pod``: then that one counts.
    """
    for name in names:
        for label in (f"exported_{name}", name):
            if (text := labels.get(label)) and (text := presentable(text)):
                return text
    return ""


def known(labels: Mapping[str, str]) -> dict[str, str]:
    """The labels of an ``Entity``: those that say something."""
    return {name: text for name, text in labels.items() if text}


def machine(labels: Mapping[str, str], look: Look) -> str:
    """The machine that a series is about: its host name, if it is one.

    An exporter in a container may call itself by the container's id, and nvitop-exporter by an address.
    """
    name = said(labels, "hostname", "Hostname")
    return look.host if not name or _CONTAINER_ID.fullmatch(name) or _is_address(name) else name


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
