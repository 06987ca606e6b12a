"""The weekly summary as an HTML file that stands alone: no script, nothing fetched, light and dark.

In print it has two pages, unless names are long.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape

from analytics.weekly import WeeklySummary
from reports.document import Document, document
from reports.figures import Tile
from reports.pictures import Picture, pictures
from reports.sections import Section, Table
from reports.words import Words

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #5b6470; --line: #d5d9df; --card: #f5f6f8; --page: #fff;
  --good: #1a7f4b; --bad: #b3261e; --notice: #8a5a00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; --soft: #a0a8b3; --line: #3a414b; --card: #20252c;
  --page: #15181d; --good: #55c98a; --bad: #ff8a80; --notice: #e5b567; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 1.5rem; background: var(--page); color: var(--ink);
  font: 15px/1.45 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.05rem; margin: 1.4rem 0 .4rem; }
p { margin: .3rem 0; } .soft, small, footer { color: var(--soft); } .notice { color: var(--notice); font-weight: 600; }
.verdict { font-size: 1.1rem; margin: .8rem 0; }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(13rem, 1fr)); gap: .6rem; margin: 0; padding: 0;
  list-style: none; }
.tiles li { background: var(--card); border-radius: .4rem; padding: .55rem .7rem; break-inside: avoid; }
.tiles b { display: block; font-size: 1.2rem; overflow-wrap: anywhere; } .tiles .unknown { font-size: .95rem;
  font-weight: normal; font-style: italic; color: var(--soft); }
.tiles small { display: block; line-height: 1.3; } .good { color: var(--good); } .bad { color: var(--bad); }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; min-width: 38rem; font-size: .88rem; }
th, td { text-align: left; vertical-align: top; padding: .3rem .6rem .3rem 0; border-bottom: 1px solid var(--line);
  overflow-wrap: break-word; min-width: 4.5rem; }
th { color: var(--soft); font-weight: 600; } .number { text-align: right; font-variant-numeric: tabular-nums; }
.pictures { display: flex; flex-wrap: wrap; gap: 1rem; } figure { margin: 0; break-inside: avoid; }
figcaption { font-weight: 600; font-size: .9rem; } svg { max-width: 100%; height: auto; }
footer { margin-top: 1.5rem; font-size: .85rem; }
@page { size: A4; margin: 12mm; }
@media print { :root { color-scheme: light; --ink: #000; --soft: #444; --line: #bbb; --card: #f2f2f2; --page: #fff;
  --good: #1a7f4b; --bad: #b3261e; --notice: #8a5a00; }
  html { font-size: 9.5px; } body { font-size: 1rem; padding: 0; max-width: none; } .second { break-before: page; }
  h2 { margin: .5rem 0 .1rem; } p { margin: .1rem 0; } .pictures { flex-wrap: nowrap; } figure { flex: 1; }
  td, th { padding: .15rem .4rem .15rem 0; }
  .tiles { grid-template-columns: repeat(4, 1fr); gap: .35rem; } .tiles li { padding: .3rem .45rem;
  border: 1px solid var(--line); } .wide { overflow: visible; } table { min-width: 0; }
  tr { break-inside: avoid; } }
"""
_IDENTITY = re.compile(r'\b(id="|url\(#|href="#)')


def file(summary: WeeklySummary, words: Words) -> bytes:
    """The content of the file."""
    said = document(summary, words)
    return _page(said, pictures(summary, words, ink="currentColor", font="sans-serif")).encode()


def _page(said: Document, drawn: Iterable[Picture]) -> str:
    title, pictured = escape(said.title), "".join(_figure(one, number) for number, one in enumerate(drawn))
    return (
        f'<!DOCTYPE html>\n<html lang="{escape(said.language)}">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<header>\n<h1>{title}</h1>\n"
        f'<p class="soft">{escape(said.subtitle)}</p>\n{_paragraphs(said.notices, "notice")}</header>\n<main>\n'
        f'<p class="verdict">{escape(" ".join(said.verdict))}</p>\n'
        f'<ul class="tiles">\n{"".join(map(_tile, said.tiles))}</ul>\n{"".join(map(_section, said.first))}'
        f'<div class="second">\n<div class="pictures">\n{pictured}</div>\n{"".join(map(_section, said.second))}</div>\n'
        f"</main>\n<footer>{escape(said.footer)}</footer>\n</body>\n</html>\n"
    )


def _paragraphs(lines: Iterable[str], kind: str = "") -> str:
    marked = f' class="{kind}"' if kind else ""
    return "".join(f"<p{marked}>{escape(line)}</p>\n" for line in lines)


def _tile(tile: Tile) -> str:
    kind = "" if tile.is_known else ' class="unknown"'
    moved = f'<small class="{tile.tone}">{escape(tile.change)}</small>' if tile.change else ""
    notes = "".join(f"<small>{escape(note)}</small>" for note in tile.notes)
    return f"<li>{escape(tile.label)}<b{kind}>{escape(tile.value)}</b>{moved}{notes}</li>\n"


def _section(section: Section) -> str:
    table = "" if section.table is None else _table(section.table)
    return f"<section>\n<h2>{escape(section.title)}</h2>\n{_paragraphs(section.lines)}{table}</section>\n"


def _table(table: Table) -> str:
    def row(cells: Iterable[str], tag: str) -> str:
        marked = (' class="number"' if number in table.numeric else "" for number in range(len(table.head)))
        return "".join(f"<{tag}{kind}>{escape(cell)}</{tag}>" for cell, kind in zip(cells, marked, strict=True))

    body = "".join(f"<tr>{row(cells, 'td')}</tr>\n" for cells in table.rows)
    head = f"<thead><tr>{row(table.head, 'th')}</tr></thead>"
    return f'<div class="wide"><table>\n{head}\n<tbody>\n{body}</tbody></table></div>\n'


def _figure(picture: Picture, number: int) -> str:
    """Identities inside an SVG are those of the whole page, so each picture gets its own."""
    svg = _IDENTITY.sub(lambda found: f"{found[1]}p{number}-", picture.svg)
    title = escape(picture.title)
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1)
    return f"<figure><figcaption>{title}</figcaption>{svg}</figure>\n"
