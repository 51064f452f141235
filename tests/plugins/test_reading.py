"""`tieout read`: one JSON object a line, or a table; nothing is loaded."""

from __future__ import annotations

import io
import json
from pathlib import Path

from rich.console import Console

from tieout.reading import COLUMNS, MISSING, READ, read_files

FIXTURES = Path(__file__).parent / "files" / "fixtures"


def printed(paths: list[Path], json_output: bool) -> tuple[int, str]:
    stream = io.StringIO()
    code = read_files(paths, json_output, Console(file=stream, width=200))
    return code, stream.getvalue()


def test_json_lines_have_exactly_the_promised_keys(tmp_path: Path) -> None:
    strange = tmp_path / "[bold]strange.bin"
    strange.write_bytes(b"\x00\xff" * 40)
    code, text = printed([FIXTURES / "mt940.sta", FIXTURES / "paypal.csv", strange], json_output=True)
    statement, report, unknown = (json.loads(line) for line in text.splitlines())
    assert code == READ == 0
    assert [tuple(line) for line in (statement, report, unknown)] == [COLUMNS] * 3
    assert statement == {
        "file": str(FIXTURES / "mt940.sta"), "format": "mt940", "status": "ok", "statements": 1, "entries": 3,
        "signed_sum": "199.625", "balance": "ok", "reason": None,
    }  # fmt: skip
    assert report["signed_sum"] == {"EUR": "0.00", "JPY": "1191"}
    assert (unknown["status"], unknown["format"], unknown["signed_sum"]) == ("quarantined", None, "0")
    assert "no reader recognises this file" in unknown["reason"]


def test_a_file_that_does_not_prove_itself_reports_what_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "statement"
    path.write_text((FIXTURES / "camt053.xml").read_text().replace("1210.50", "1210.51"))
    _, text = printed([path], json_output=True)
    line = json.loads(text)
    assert (line["status"], line["statements"], line["entries"]) == ("quarantined", 1, 3)
    assert line["signed_sum"] == "198.50000"
    assert line["balance"] == "off 0.01000"
    assert all(part in line["reason"] for part in ("statement, line 5", "expected", "found '0.01000'", "Remedy:"))


def test_an_amount_with_more_decimals_than_its_currency_is_summed_as_written(tmp_path: Path) -> None:
    path = tmp_path / "statement"
    path.write_text((FIXTURES / "camt053.xml").read_text().replace("300.00000", "300.00001"))
    _, text = printed([path], json_output=True)
    assert json.loads(text)["signed_sum"] == "198.50001"
    assert json.loads(text)["status"] == "quarantined"


def test_a_missing_path_is_said_and_nothing_is_read(tmp_path: Path) -> None:
    code, text = printed([FIXTURES / "ecb.csv", tmp_path / "gone.csv"], json_output=True)
    assert code == MISSING == 2
    assert "No such file" in text
    assert "gone.csv" in text
    assert "{" not in text


def test_the_table_shows_every_file(tmp_path: Path) -> None:
    code, text = printed([FIXTURES / "ecb.csv", FIXTURES / "paypal.csv"], json_output=False)
    assert code == READ
    assert all(word in text for word in ("ecb.csv", "paypal.csv", "ok", "EUR 0.00", "JPY 1191"))
