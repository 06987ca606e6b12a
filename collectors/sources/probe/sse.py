"""Server-sent events, read as they arrive: bytes in, the data of each event out.

The grammar is the WHATWG one, reduced to what inference servers use: ``data`` lines make the event,
``event``, ``id`` and ``retry`` are ignored, a line that begins with a colon keeps the connection
alive. Where the bytes are cut does not matter, and an event is out as soon as its blank line is in.
"""

from __future__ import annotations

import re

_LINE_END = re.compile(rb"\r\n|\r|\n")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class EventParser:
    """Reads one stream. It keeps what is unfinished; whoever feeds it bounds the total."""

    def __init__(self) -> None:
        self._line = bytearray()
        self._data: list[str] = []
        self._after_cr = False
        self._at_start = True

    def feed(self, chunk: bytes) -> list[str]:
        """The data of every event that these bytes complete."""
        if not chunk:
            return []
        rest = chunk[1:] if self._after_cr and chunk.startswith(b"\n") else chunk  # the second half of a CRLF
        self._after_cr = chunk.endswith(b"\r")
        *ends, unfinished = _LINE_END.split(rest)
        events = []
        for end in ends:
            self._line += end
            event = self._take(bytes(self._line))
            self._line.clear()
            if event is not None:
                events.append(event)
        self._line += unfinished
        return events

    def end(self) -> list[str]:
        """The event left over when the connection closes; some servers leave out the last blank line."""
        return self.feed(b"\n\n")

    def _take(self, line: bytes) -> str | None:
        if self._at_start:
            line = line.removeprefix(_BYTE_ORDER_MARK)
            self._at_start = False
        if not line:
            event = "\n".join(self._data) if self._data else None
            self._data.clear()
            return event
        field, _, value = line.partition(b":")
        if field == b"data":
            self._data.append(value.removeprefix(b" ").decode("utf-8", "replace"))
        return None
