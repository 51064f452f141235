"""Small whole files, one a format, and a way to read variations of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.plugins.rows import rows_of
from tieout import files

FIXTURES = Path(__file__).parent / "fixtures"


class Outcome(NamedTuple):
    """What came of reading: the rows by table, and the reading or the refusal."""

    rows: dict[str, list[Any]]
    reading: files.Reading | None
    rejected: files.Rejected | None


@pytest.fixture
def fixture_bytes() -> Callable[[str], bytes]:
    """``fixture_bytes(name)``: a hand-written whole file."""
    return lambda name: (FIXTURES / name).read_bytes()


@pytest.fixture
def fixture_text(fixture_bytes: Callable[[str], bytes]) -> Callable[[str], str]:
    """``fixture_text(name)``: a hand-written whole file as text."""
    return lambda name: fixture_bytes(name).decode()


@pytest.fixture
def read(tmp_path: Path) -> Callable[[str | bytes], Outcome]:
    """``read(content)``: the outcome of reading it under a name that says nothing."""

    def read_content(content: str | bytes) -> Outcome:
        path = tmp_path / "delivered"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        rows: dict[str, list[Any]] = {}

        def take(table: str, some: Any) -> None:
            rows.setdefault(table, []).extend(rows_of(table, some))

        try:
            reading = files.read(path, take)
        except files.Rejected as rejected:
            return Outcome(rows, None, rejected)
        return Outcome(rows, reading, None)

    return read_content
