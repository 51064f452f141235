"""Files of the sandbox's own that only grow: what waits for a later day is on disk, not in memory.

A day that dies leaves longer files behind than the saved state knows; opening the spool again cuts them back.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

FLUSH_CHARACTERS = 1 << 18


class Spool:
    """Append-only text files under one folder, with sizes that the caller saves once a day.

    :param root: folder of the files; made when missing.
    :param sizes: bytes of each file (by name below ``root``) at the last saved day; others are removed.
    :param keep: name of the one file in the folder that is not the spool's.
    """

    def __init__(self, root: Path, sizes: dict[str, int], keep: str) -> None:
        self.root = root
        self.sizes = dict(sizes)
        self._pending: dict[str, list[str]] = {}
        self._pending_characters = 0
        self._done: list[str] = []
        root.mkdir(parents=True, exist_ok=True)
        for path in sorted(root.rglob("*")):
            name = path.relative_to(root).as_posix()
            if path.is_dir() or name == keep:
                continue
            if name not in sizes:
                path.unlink()
            elif path.stat().st_size > sizes[name]:
                os.truncate(path, sizes[name])

    def append(self, name: str, text: str) -> None:
        """Add text to the end of a file."""
        self._pending.setdefault(name, []).append(text)
        self._pending_characters += len(text)
        if self._pending_characters > FLUSH_CHARACTERS:
            self.flush()

    def flush(self) -> None:
        """Write what is pending."""
        for name, texts in self._pending.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            data = "".join(texts).encode()
            with path.open("ab") as file:
                file.write(data)
            self.sizes[name] = self.sizes.get(name, 0) + len(data)
        self._pending.clear()
        self._pending_characters = 0

    def lines(self, name: str) -> Iterator[str]:
        """The lines of a file, without their ends; nothing when there is no such file."""
        self.flush()
        if name in self.sizes:
            with (self.root / name).open(encoding="utf-8", newline="") as file:
                for line in file:
                    yield line.rstrip("\n")

    def path(self, name: str) -> Path:
        """Where a file is, everything written."""
        self.flush()
        return self.root / name

    def retire(self, name: str) -> None:
        """Let go of a file: it is removed by :meth:`sweep`, once the day that used it is saved."""
        if self.sizes.pop(name, None) is not None:
            self._done.append(name)

    def sweep(self) -> None:
        """Remove the files that were let go of."""
        for name in self._done:
            (self.root / name).unlink(missing_ok=True)
        self._done.clear()
