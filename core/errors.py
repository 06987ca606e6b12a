"""Every error a caller of Vatio may want to tell apart.

    VatioError
    |-- ConfigError            the settings are wrong: print the line, exit 2
    |-- StoreError             the database cannot be used: print the line, exit 3
    |   `-- StoreLocked        another daemon writes it
    `-- CollectorError         this tick failed: record it, try again at the next
        |-- NoData             nothing to report, and that is not a fault
        |-- SourceUnavailable  driver, device or endpoint is not there (any more): discover again
        `-- DeadlineExceeded   the source did not answer in its time

One class per decision a caller makes; the message is one line that names the thing and the remedy.
"""

from __future__ import annotations


class VatioError(Exception):
    """Root of all errors raised on purpose."""


class ConfigError(VatioError):
    """A setting is unknown, has the wrong type, or an impossible value."""


class StoreError(VatioError):
    """The database is missing, too new, or cannot be written."""


class StoreLocked(StoreError):
    """Another collector daemon holds the database."""


class CollectorError(VatioError):
    """A source could not deliver this tick."""


class NoData(CollectorError):
    """The source is well but has nothing to say."""


class SourceUnavailable(CollectorError):
    """What the source reads from is gone; it must be discovered again."""


class DeadlineExceeded(CollectorError):
    """The source took longer than its deadline."""
