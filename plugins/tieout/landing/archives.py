"""Archives in the landing: a zip or a gzip is a delivery, its members are files of their own.

An archive is opened within limits, looked at whole before anything of it is loaded: one member too many, one byte
too much or one broken checksum refuses all of it. What an archive is, its first bytes say, not its name.
"""

from __future__ import annotations

import errno
import gzip
import stat
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

ZIP_MARKS = (b"PK\x03\x04", b"PK\x05\x06")
GZIP_MARK = b"\x1f\x8b"
TAR_MARK, TAR_MARK_AT = b"ustar", 257
OFFICE_MEMBER = "[Content_Types].xml"
CHUNK_BYTES = 1 << 20
ENCRYPTED_FLAG = 0x1
# The end of a zip says how large its directory is, which is read into memory as a whole.
END_MARK, END_64_LOCATOR_MARK, END_64_MARK = b"PK\x05\x06", b"PK\x06\x07", b"PK\x06\x06"
END_BYTES, END_64_LOCATOR_BYTES, COMMENT_BYTES_MAX = 22, 20, 65_535

SEND_FILES = "send the files each on its own, or in one plain zip"


@dataclass(frozen=True)
class Limits:
    """What an archive may hold. The ratio, unpacked to packed, counts from ``ratio_from_bytes`` unpacked on."""

    members: int = 1_000
    directory_bytes: int = 4 << 20
    unpacked_bytes: int = 8 << 30
    ratio: int = 250
    ratio_from_bytes: int = 64 << 20


LIMITS = Limits()


@dataclass(frozen=True)
class Member:
    """A file that was unpacked: its name within the archive, and where it lies now."""

    name: str
    path: Path


class RefusedArchive(Exception):
    """Nothing of the archive may be loaded; the message says why, and what to do."""


def is_archive(path: Path) -> bool:
    """Whether the file's first bytes are those of a zip, a gzip or a tar."""
    with path.open("rb") as stream:
        return _is_archive(stream.read(TAR_MARK_AT + len(TAR_MARK)))


def unpack(path: Path, name: str, folder: Path, limits: Limits | None = None) -> list[Member]:
    """Unpack all members into a folder of their own each, in the order of their names; flat memory.

    Folders, and members whose name starts with a dot as unfinished files in the landing do, are passed over.

    :param name: of the archive, which names the member of a gzip.
    :param limits: by default ``LIMITS``.
    :raises RefusedArchive: it breaks a limit, is damaged or encrypted, or holds what is no plain file.
    :raises OSError: the local disk is full or cannot be written.
    """
    with path.open("rb") as stream:
        head = stream.read(TAR_MARK_AT + len(TAR_MARK))
    budget = _Budget(limits or LIMITS, path.stat().st_size)
    if head.startswith(GZIP_MARK):
        members = [_gunzip(path, name, folder, budget)]
    elif head.startswith(ZIP_MARKS):
        members = _unzip(path, folder, budget)
    else:
        raise RefusedArchive(f"a tar archive is not opened: {SEND_FILES}")
    for member in members:
        if is_archive(member.path):
            raise RefusedArchive(f"{member.name} is an archive within the archive: {SEND_FILES}")
    if not members:
        raise RefusedArchive("the archive holds no file: ask the sender for the files")
    return members


def _is_archive(head: bytes) -> bool:
    return head.startswith((GZIP_MARK, *ZIP_MARKS)) or head[TAR_MARK_AT:] == TAR_MARK


class _Bytes(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


class _Budget:
    """Counts what is unpacked, and stops it at the limit."""

    def __init__(self, limits: Limits, packed_bytes: int) -> None:
        self.limits = limits
        self._packed = packed_bytes
        self._unpacked = 0

    def spend(self, size: int) -> None:
        self._unpacked += size
        self.check(self._unpacked)

    def check(self, unpacked: int) -> None:
        limits = self.limits
        if unpacked > limits.unpacked_bytes:
            raise RefusedArchive(f"unpacked it is larger than {limits.unpacked_bytes} bytes: {SEND_FILES}")
        if unpacked > limits.ratio_from_bytes and unpacked > limits.ratio * self._packed:
            raise RefusedArchive(
                f"it unpacks to more than {limits.ratio} times its {self._packed} bytes, as no report does: find out "
                "who sent it"
            )


def _gunzip(path: Path, name: str, folder: Path, budget: _Budget) -> Member:
    inner = name[:-3] if name.lower().endswith(".gz") and len(name) > 3 else name
    target = _place(folder, 0, inner)
    with _damage_refused("gzip"), gzip.open(path, "rb") as source:
        _pour(source, target, budget)
    return Member(inner, target)


def _unzip(path: Path, folder: Path, budget: _Budget) -> list[Member]:
    if _directory_bytes(path) > budget.limits.directory_bytes:
        raise RefusedArchive(f"its directory is larger than {budget.limits.directory_bytes} bytes: {SEND_FILES}")
    with _damage_refused("zip"), zipfile.ZipFile(path) as archive:
        wanted = _listed(archive, budget)
        members = []
        for number, entry in enumerate(wanted):
            target = _place(folder, number, PurePosixPath(entry.filename).name)
            with archive.open(entry) as source:
                _pour(source, target, budget)
            members.append(Member(entry.filename, target))
        return members


@contextmanager
def _damage_refused(kind: str) -> Iterator[None]:
    """Whatever a broken archive makes the standard library raise is the archive's fault, but not a full disk."""
    try:
        yield
    except (RefusedArchive, MemoryError):
        raise
    except Exception as error:
        # A seek to where nothing can be is the archive's error too.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise RefusedArchive(f"the {kind} is damaged or cut ({error}): ask the sender for the whole file") from error


def _directory_bytes(path: Path) -> int:
    """Size of the zip's directory as its end says; of two that it says, the larger."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        start = max(0, size - END_BYTES - COMMENT_BYTES_MAX - END_64_LOCATOR_BYTES)
        stream.seek(start)
        tail = stream.read()
        at = tail.rfind(END_MARK)
        if at < 0 or len(tail) < at + END_BYTES:
            return 0  # damaged, as opening it will say
        found: int = struct.unpack_from("<L", tail, at + 12)[0]
        locator = at - END_64_LOCATOR_BYTES
        if locator < 0 or not tail.startswith(END_64_LOCATOR_MARK, locator):
            return found
        stream.seek(min(struct.unpack_from("<Q", tail, locator + 8)[0], size))
        end = stream.read(56)
        if len(end) < 56 or not end.startswith(END_64_MARK):
            return size
        return int(struct.unpack_from("<Q", end, 40)[0])


def _listed(archive: zipfile.ZipFile, budget: _Budget) -> list[zipfile.ZipInfo]:
    """The members to unpack, once the archive's own directory has passed every limit."""
    entries = archive.infolist()
    if len(entries) > budget.limits.members:
        raise RefusedArchive(f"it has {len(entries)} members, {budget.limits.members} are allowed: {SEND_FILES}")
    budget.check(sum(entry.file_size for entry in entries))
    seen: set[str] = set()
    for entry in entries:
        shown = ascii(entry.filename)
        if entry.filename == OFFICE_MEMBER:
            raise RefusedArchive("it is an office document, not an archive: have the report delivered as CSV")
        if _leads_out(entry.orig_filename) or _leads_out(entry.filename):
            raise RefusedArchive(f"the name {shown} leads out of the archive: find out who sent it")
        # The upper half of the attributes is what Unix says of the file; other systems leave it zero.
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise RefusedArchive(f"{shown} is a link or a device, not a file: {SEND_FILES}")
        if entry.flag_bits & ENCRYPTED_FLAG:
            raise RefusedArchive(f"{shown} is encrypted: have it delivered without a password")
        # The others take memory as the archive pleases.
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise RefusedArchive(f"{shown} is compressed in an unusual way: have it delivered as a plain zip")
        if entry.filename in seen:
            raise RefusedArchive(f"two members are named {shown}: {SEND_FILES}")
        seen.add(entry.filename)
    wanted = [entry for entry in entries if not entry.is_dir() and not _is_hidden(entry.filename)]
    return sorted(wanted, key=lambda entry: entry.filename)


def _leads_out(name: str) -> bool:
    parts = name.replace("\\", "/").split("/")
    return name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0] or "\x00" in name or not name.strip("./")


def _is_hidden(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return parts[0] == "__MACOSX" or any(part.startswith(".") for part in parts)


def _place(folder: Path, number: int, name: str) -> Path:
    """Where a member is unpacked: its name stays, for the reader; a folder of its own keeps it from the others."""
    # No file system takes more than 255 bytes.
    target = folder / str(number) / (name.encode(errors="replace")[-200:].decode(errors="ignore") or "member")
    target.parent.mkdir(parents=True)
    return target


def _pour(source: _Bytes, target: Path, budget: _Budget) -> None:
    with target.open("wb") as sink:
        for chunk in _chunks(source):
            budget.spend(len(chunk))
            sink.write(chunk)


def _chunks(source: _Bytes) -> Iterator[bytes]:
    while chunk := source.read(CHUNK_BYTES):
        yield chunk
