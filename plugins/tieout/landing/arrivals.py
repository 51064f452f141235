"""Files as they arrive in the landing: listed, and copied to the local disk before they are read."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tieout.landing.spool import CHUNK_BYTES

# Names that senders use while they are still writing.
UNFINISHED_SUFFIXES = (".tmp", ".part")


class LandingError(RuntimeError):
    """The landing itself cannot be read; the message names it and the remedy."""


class StillMovingError(Exception):
    """The file changed or vanished while it was copied."""


class UnreadableError(Exception):
    """The landing does not give this one file out."""


@dataclass(frozen=True)
class Arrival:
    """A file as the walk saw it."""

    path: Any
    size_bytes: int
    modified: Any


def walk(root: Any) -> list[Arrival]:
    """All files below, sorted; sizes are taken now, so that one which grows while others load is noticed.

    :param root: anything with the interface of pathlib.Path.
    :raises LandingError: the folder does not exist or cannot be listed.
    """
    try:
        if not root.is_dir():
            raise LandingError(f"the landing {root} is no folder: create it, or point TIEOUT_LANDING at the right one")
        found: list[Arrival] = []
        folders = [root]
        while folders:
            for path in folders.pop().iterdir():
                if path.name.startswith(".") or path.name.endswith(UNFINISHED_SUFFIXES):
                    continue
                if path.is_dir():
                    if not path.is_symlink():  # which might lead round in a circle
                        folders.append(path)
                    continue
                try:
                    state = path.stat()
                except FileNotFoundError:
                    continue  # renamed since it was listed: the next run sees it under its new name
                found.append(Arrival(path, state.st_size, state.st_mtime))
    except OSError as error:
        raise LandingError(
            f"the landing {root} cannot be listed: {error}. Check that it is there and readable"
        ) from error
    return sorted(found, key=lambda arrival: str(arrival.path))


def storable(text: str) -> str:
    """Foreign text as Postgres takes it: bytes of a name that are no UTF-8, and NUL, are written as escapes."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\x00", "\\x00")


def copy_and_digest(arrival: Arrival, target: Path) -> str:
    """Copy a file to the local disk; returns its sha256 in hex.

    :raises StillMovingError: it is not as it was when it was listed.
    :raises UnreadableError: the landing does not give it out.
    :raises OSError: the local disk is full or cannot be written.
    """
    digest = hashlib.sha256()
    copied = 0
    try:
        with target.open("wb") as sink:
            for chunk in _chunks(arrival.path):
                digest.update(chunk)
                copied += len(chunk)
                sink.write(chunk)
    except OSError as error:
        raise local_disk_error(error) from error
    try:
        state = arrival.path.stat()
    except FileNotFoundError as error:
        raise StillMovingError("the file went away while it was read") from error
    if (copied, state.st_size, state.st_mtime) != (arrival.size_bytes, arrival.size_bytes, arrival.modified):
        raise StillMovingError(
            f"the file is still being written ({arrival.size_bytes} bytes when listed, {state.st_size} now): "
            "it is read once it stays the same"
        )
    return digest.hexdigest()


def _chunks(path: Any) -> Iterator[bytes]:
    try:
        with path.open("rb") as source:
            while chunk := source.read(CHUNK_BYTES):
                yield chunk
    except FileNotFoundError as error:
        raise StillMovingError("the file went away while it was read") from error
    except OSError as error:
        raise UnreadableError(f"the file cannot be read: {error}. Check its permissions; it is tried again") from error


def local_disk_error(error: OSError) -> OSError:
    """The error of a copy or a spool, with where the disk is and what helps."""
    where = tempfile.gettempdir()
    said = f"files are copied to {where} before they are read, and that failed: {error.strerror}. "
    return OSError(error.errno, f"{said}Free some space there, or point TMPDIR at another disk")
