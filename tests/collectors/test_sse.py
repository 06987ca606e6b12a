"""The event parser: the grammar, and that it does not matter where the network cuts the bytes."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.sources.probe.sse import EventParser


def parse(*chunks: bytes) -> list[str]:
    parser = EventParser()
    return [event for chunk in chunks for event in parser.feed(chunk)] + parser.end()


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"", []),
        (b"data: one\n\n", ["one"]),
        (b"data:one\n\n", ["one"]),
        (b"data:  one\n\n", [" one"]),
        (b"data: one\n\ndata: two\n\n", ["one", "two"]),
        (b"data: one\ndata: two\n\n", ["one\ntwo"]),
        (b"data: one\r\n\r\ndata: two\r\n\r\n", ["one", "two"]),
        (b"data: one\r\rdata: two\r\r", ["one", "two"]),
        (b"data: one\n\r\n", ["one"]),
        (b": keep-alive\n\ndata: one\n\n", ["one"]),
        (b"data: one\n: in the middle\ndata: two\n\n", ["one\ntwo"]),
        (b"event: message\nid: 7\nretry: 10\ndata: one\n\n", ["one"]),
        (b"event: ping\n\n", []),
        (b"\n\n\n", []),
        (b"data\n\n", [""]),
        (b"data:\n\n", [""]),
        (b"database: no\n\n", []),
        (b" data: no\n\n", []),
        (b"data: a: b\n\n", ["a: b"]),
        (b"\xef\xbb\xbfdata: one\n\n", ["one"]),
        (b"data: one\n\n\xef\xbb\xbfdata: no\n\n", ["one"]),
        ("data: ¿qué? 電\n\n".encode(), ["¿qué? 電"]),
        (b"data: \xff\n\n", ["\ufffd"]),
        ("data: one\u2028still one\x0b\n\n".encode(), ["one\u2028still one\x0b"]),
        (b"data: no blank line at the end", ["no blank line at the end"]),
        (b"data: one\n\ndata: [DONE]\n", ["one", "[DONE]"]),
    ],
)
def test_grammar(stream: bytes, events: list[str]) -> None:
    assert parse(stream) == events


def test_an_event_is_out_with_its_blank_line() -> None:
    parser = EventParser()
    assert parser.feed(b"data: one\n") == []
    assert parser.feed(b"\n") == ["one"]
    assert parser.feed(b"data: two\r") == []
    assert parser.feed(b"\n\r") == ["two"]  # not held back to see whether a line feed follows
    assert parser.feed(b"\ndata: three\r\n\r") == ["three"]
    assert parser.feed(b"\n") == []


def oracle(stream: bytes) -> list[str]:
    """The same grammar over the whole text at once, written the plain way."""
    text = re.sub(rb"\r\n?", b"\n", stream.removeprefix(b"\xef\xbb\xbf"))
    events = []
    for block in re.split(rb"\n\n+", text):
        lines = [line.partition(b":") for line in block.split(b"\n")]
        data = [value[1:] if value[:1] == b" " else value for name, _, value in lines if name == b"data"]
        if data:
            events.append("\n".join(line.decode("utf-8", "replace") for line in data))
    return events


line_ends = st.sampled_from([b"\n", b"\r", b"\r\n", b"\n\n"])
fields = st.sampled_from([b"data:", b"data: ", b"data", b": ping", b"event: x", b"\xef\xbb\xbf", b" ", b":"])
values = st.sampled_from(['{"a": "ñ電😀"}'.encode(), b"[DONE]", b"\xf0\x9f", b"\x00"])
pieces = line_ends | fields | values | st.binary(max_size=6)
streams = st.lists(pieces, max_size=30).map(b"".join)


@given(stream=streams, data=st.data())
@settings(max_examples=300, deadline=None)
def test_any_split_gives_the_same_events(stream: bytes, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    chunks = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    expected = oracle(stream)
    assert parse(stream) == expected
    assert parse(*chunks) == expected
    assert parse(*(bytes([byte]) for byte in stream)) == expected


def test_a_huge_line_takes_linear_time() -> None:
    def seconds(chunks: int) -> float:
        parser = EventParser()
        piece = b"x" * 1024
        began = time.process_time()
        parser.feed(b"data: ")
        for _ in range(chunks):
            parser.feed(piece)
        assert len(parser.feed(b"\n\n")[0]) == chunks * 1024
        return time.process_time() - began

    seconds(64)
    assert seconds(8192) < 1.0  # 8 MiB; copying what is there for every chunk would take over 30 GB of copies
