"""Times in the formats that a declaration names."""

from __future__ import annotations

import re
from datetime import datetime, tzinfo
from functools import cache, lru_cache
from typing import Any

# Parts of a time that are digits, as strptime has them; it takes fewer digits, too, and is asked where this fails.
NO_TIME = {"year": 1900, "month": 1, "day": 1}
DIGITS = {
    "%Y": r"(?P<year>\d{4})", "%m": r"(?P<month>\d{2})", "%d": r"(?P<day>\d{2})", "%H": r"(?P<hour>\d{2})",
    "%M": r"(?P<minute>\d{2})", "%S": r"(?P<second>[0-5]\d)", "%f": r"(?P<microsecond>\d{1,6})",
}  # fmt: skip


@lru_cache(maxsize=1 << 12)
def instant(text: str, formats: tuple[str, ...], zone: tzinfo) -> datetime:
    """A time in the first of the formats of strptime that it is written in; in ``zone``, where it names none itself.

    :raises ValueError: it is written in none of them.
    """
    if text.isascii():
        for each in formats:
            written = _as_declared(each)
            match = written.fullmatch(text) if written is not None else None
            try:
                if match:
                    parts = match.groupdict(default="0")
                    parts["microsecond"] = parts.get("microsecond", "0").ljust(6, "0")
                    values: dict[str, Any] = NO_TIME | {name: int(part) for name, part in parts.items()}
                    found = datetime(**values)
                else:
                    found = datetime.strptime(text, each)
            except ValueError:
                continue
            return found if found.tzinfo else found.replace(tzinfo=zone)
    raise ValueError(text)


@cache
def _as_declared(timestamps: str) -> re.Pattern[str] | None:
    """What a time looks like that has all the digits of its declared format; None for a format of other parts."""
    pattern = re.escape(timestamps)
    for directive, part in DIGITS.items():
        pattern = pattern.replace(directive, part)
    return None if "%" in pattern else re.compile(pattern, re.ASCII)
