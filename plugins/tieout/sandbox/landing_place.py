"""Where the outside world drops its files: whole or not at all, so that a replayed day leaves the same files."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

ORIGINS = ("adyen", "stripe", "paypal", "bank", "ecb")


class LandingPlace:
    """The landing folder with one folder an origin.

    :param root: the landing; made when missing.
    :param delivered: collects the files of the day, in order.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.delivered: list[Path] = []
        for origin in ORIGINS:
            (root / origin).mkdir(parents=True, exist_ok=True)

    def deliver_text(self, origin: str, name: str, text: str) -> Path:
        """Drop a file with this content."""
        return self.deliver_parts(origin, name, [text])

    def deliver_parts(
        self, origin: str, name: str, parts: Iterable[str | Path], limit_bytes: int | None = None
    ) -> Path:
        """Drop a file made of texts and of whole files, in order.

        :param limit_bytes: break off after so many bytes, as a cut connection does.
        """
        target = self.root / origin / name
        partial = self.root / origin / f".{name}.part"
        with partial.open("wb") as file:
            for part in parts:
                if isinstance(part, Path):
                    with part.open("rb") as source:
                        shutil.copyfileobj(source, file, 1 << 20)
                else:
                    file.write(part.encode())
            if limit_bytes is not None:
                file.truncate(limit_bytes)
        partial.replace(target)
        self.delivered.append(target)
        return target
