"""What a file is called may hold a card number as well as what stands in it."""

from __future__ import annotations

import io
import logging
import zipfile

import pytest

from tests.plugins.desk import Desk, adyen


def test_a_card_number_in_the_name_of_a_file_is_neither_stored_nor_told(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    """A file is its bytes: two whose names are alike once they are masked are two files."""
    caplog.set_level(logging.INFO)
    one, other = "4111 1111 1111 1111", "4111 1100 0009 1111"
    desk.put(f"{one}/{one}.csv", adyen({42: [("A", 100)]}))
    desk.put(f"{one}/{other}.csv", adyen({43: [("B", 100)]}))
    desk.put(f"{one}.csv", "nobody's format")
    desk.put(f"{other}.csv", "")
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr(f"{one}.csv", adyen({44: [("C", 100)]}))
    desk.put(f"{one}.zip", zipped.getvalue())
    found = desk.run()
    assert sorted(each.outcome for each in found) == ["empty", "loaded", "loaded", "loaded", "quarantined"]
    stored = desk.ask("select f::text from ops.files f union all select n::text from ops.load_notes n")
    assert len(stored) > 4
    told = f"{found} {stored} {caplog.text}"
    assert "{card 411111******1111" in told
    assert "4111 11" not in told
