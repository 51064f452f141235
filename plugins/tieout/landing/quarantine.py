"""Files that were set aside: refused ones, and ones that are held. People look at them here, and release them.

A release is a decision with a reason and a name, written down and never changed. The next ingest acts on it: a held
file is loaded in spite of what held it, a refused one is read again by the readers of that day.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from psycopg2.extensions import connection as Connection

from tieout.card_numbers import redact
from tieout.landing import register as file_register
from tieout.landing.arrivals import storable

# Lines shown before and after the one a reason names, and characters of each.
LINES_AROUND = 2
LINE_WIDTH = 160
# A line beyond this many bytes is not looked for: the file would be read from its start.
SEARCH_BYTES = 256 << 20


class QuarantineError(ValueError):
    """What was asked for cannot be done; the message says why."""


@dataclass(frozen=True)
class SetAside:
    """One file in quarantine: how long, and why. ``is_released`` until the ingest has acted on a release."""

    file_id: int
    name: str
    format: str | None
    status: str
    since: datetime
    reason: str
    is_released: bool


def list_files(connection: Connection) -> list[SetAside]:
    """All files that are refused or held, oldest first."""
    with connection.cursor() as cursor:
        cursor.execute(
            "select f.file_id, f.name, f.format, f.status, f.seen_at, f.reason, coalesce((select a.action = 'released' "
            "  from ops.file_actions a where a.file_id = f.file_id order by a.action_id desc limit 1), false) "
            "from ops.files f where f.status in ('quarantined', 'held') order by f.file_id"
        )
        return [SetAside(*row) for row in cursor.fetchall()]


def describe(connection: Connection, file_id: int) -> list[tuple[str, str]]:
    """Everything that is known of a file, as (what, text): identity, counts, sums, reason and place, history, text.

    :raises QuarantineError: there is no such file.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "select file_id, name, uri, sha256, size_bytes, format, status, reason, origin, origin_account, "
            "content_date, statement_count, entry_count, seen_at, record_header, observed from ops.files "
            "where file_id = %s",
            (file_id,),
        )
        row = cursor.fetchone()
        if row is None:
            raise QuarantineError(f"there is no file {file_id}: `tieout quarantine list` shows those set aside")
        names = [column.name for column in cursor.description or ()]
        cursor.execute(
            "select action, actor, reason, acted_at from ops.file_actions where file_id = %s order by action_id",
            (file_id,),
        )
        actions = cursor.fetchall()
    known = dict(zip(names, row, strict=True))
    observed: dict[str, Any] = known.pop("observed")
    place = observed.pop("place", {})
    found = [(name.replace("_", " "), str(value)) for name, value in known.items() if value is not None]
    found += [(name.replace("_", " "), _spelled(value)) for name, value in observed.items() if value not in ({}, [])]
    found += [(name, str(value)) for name, value in place.items() if value is not None]
    found += [(action, f"{at:%Y-%m-%d %H:%M} by {actor}: {reason}") for action, actor, reason, at in actions]
    if place.get("line"):
        found += _text_around(known["uri"], int(place["line"]))
    return [(name, redact(text)) for name, text in found]


def release(connection: Connection, file_id: int, reason: str, actor: str) -> str:
    """Write down that a file is to be loaded, or read, again; returns the file's name. Commits.

    :raises QuarantineError: there is no such file, it is loaded, it is released already, or no reason is given.
    """
    if not reason.strip():
        raise QuarantineError("a release needs a reason: it is kept with the file")
    with connection, connection.cursor() as cursor:
        cursor.execute("select sha256 from ops.files where file_id = %s", (file_id,))
        row = cursor.fetchone()
        entry = None if row is None else file_register.find(cursor, row[0])
        if entry is None:
            raise QuarantineError(f"there is no file {file_id}: `tieout quarantine list` shows those set aside")
        if entry.status == "loaded" or entry.file_id != file_id:
            raise QuarantineError(f"file {file_id} ({entry.name}) is loaded: there is nothing to release")
        if entry.release is not None:
            raise QuarantineError(
                f"file {file_id} ({entry.name}) was released by {entry.release.actor} already "
                f"({entry.release.reason}): the next ingest acts on it"
            )
        cursor.execute("select ops.as_of()")
        ((as_of,),) = cursor.fetchall()
        file_register.act(cursor, file_id, "released", storable(reason.strip()), actor, as_of)
    return entry.name


def _spelled(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {amount}" for name, amount in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _text_around(uri: str, line: int) -> list[tuple[str, str]]:
    """The lines around one, if the file still lies where it was seen and that is this machine's disk."""
    parts = urlsplit(uri)
    if parts.scheme not in ("", "file"):
        return [("text", f"not shown: the file lies at {uri}")]
    path = Path(unquote(parts.path) if parts.scheme else uri)
    try:
        with path.open("rb") as stream:
            return _lines_around(stream, line)
    except (OSError, ValueError):
        return [("text", f"not shown: {uri} cannot be read here any more, or is a member of an archive")]


def _lines_around(stream: Any, line: int) -> list[tuple[str, str]]:
    shown, number, passed = [], 1, 0
    while passed < SEARCH_BYTES and number <= line + LINES_AROUND:
        piece: bytes = stream.readline(1 << 20)
        if not piece:
            break
        passed += len(piece)
        if number >= line - LINES_AROUND:
            text = piece[:LINE_WIDTH].decode("utf-8", "backslashreplace").rstrip("\r\n")
            printable = "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)
            shown.append((f"line {number}{' >' if number == line else ''}", printable))
        number += piece.endswith(b"\n")
    return shown
