"""A processor that nobody has heard of: its CSV is declared in a page of YAML, and what is wrong with that is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from tieout.files import declared
from tieout.files.declaration import DeclarationError, load
from tieout.files.proof import Reading, Rejected

DECLARATION = """\
format: acme.settlement
processor: acme
about: ACME's settlement CSV, semicolons and decimal commas, a total at the end.
delimiter: ";"
decimal: ","
preamble: 2
time_zone: Europe/Berlin
timestamps: ["%d.%m.%Y %H:%M"]
sections:
  - name: lines
    role: lines
    header: [Datum, Art, Referenz, Bestellung, Brutto, Gebuehr, Netto, Waehrung, Auszahlung]
    line:
      account: {constant: acme-eu}
      record_type: Art
      batch: Auszahlung
      psp_reference: Referenz
      merchant_reference: Bestellung
      occurred_at: Datum
      gross: {plus: Brutto, currency: Waehrung}
      fee: {plus: Gebuehr}
      net: {plus: Netto, currency: Waehrung}
  - name: total
    role: facts
    columns: [tag, count, total]
    tags: [Summe]
    expect:
      - {column: count, is: count, of: lines}
      - {column: total, is: sum, of: lines, plus: Netto}
"""
REPORT = """\
ACME Payments GmbH
Bericht vom 20.10.2026;alle Konten
Datum;Art;Referenz;Bestellung;Brutto;Gebuehr;Netto;Waehrung;Auszahlung
19.10.2026 08:30;Zahlung;A1;O-1;1234,56;1,50;1233,06;EUR;P1
19.10.2026 09:30;Erstattung;A2;O-2;-10,00;0,00;-10,00;EUR;P1
Summe;2;1223,06
"""


def read(folder: Path, declaration: str, report: str) -> Reading:
    (folder / "acme.yml").write_text(declaration, encoding="utf-8")
    (folder / "report.csv").write_text(report, encoding="utf-8")
    return declared.read(load(folder / "acme.yml"), folder / "report.csv", lambda table, rows: None).reading()


def test_a_page_of_yaml_reads_and_proves_its_report(tmp_path: Path) -> None:
    reading = read(tmp_path, DECLARATION, REPORT)
    assert (reading.balance, reading.entries, reading.signed_sum) == ("ok", 2, {"EUR": 122306})
    assert [document.identity for document in reading.documents] == ["acme|acme-eu|P1|EUR"]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("processor: acme\n", "processor: acme\nprocessor: other\n", "the key processor stands twice"),
        ("processor: acme\n", "processor: acme\nprocessor: other\n", "line 3, column 1"),
        ("%d.%m.%Y %H:%M", "dd.mm.yyyy", "timestamps: no date can be read by 'dd.mm.yyyy'"),
        ("%d.%m.%Y %H:%M", "%d.%m.%Q", "timestamps: no date can be read by '%d.%m.%Q'"),
        ("%d.%m.%Y %H:%M", "%H:%M", "timestamps: no date can be read by '%H:%M'"),
        ("delimiter", "delimitr", "unknown key delimitr"),
        ("plus: Brutto", "plus: Bruto", "sections[0].line.gross.plus: no column Bruto"),
        ("[Datum", "[[Datum", "line 12"),
    ],
)
def test_what_is_wrong_with_a_declaration_is_said_before_any_file_is_blamed(
    old: str, new: str, problem: str, tmp_path: Path
) -> None:
    assert old in DECLARATION
    with pytest.raises(DeclarationError) as refused:
        read(tmp_path, DECLARATION.replace(old, new, 1), REPORT)
    assert str(refused.value).startswith("acme.yml: ")
    assert problem in str(refused.value)
    assert "Remedy: " in str(refused.value)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("1223,06\n", "1223,07\n", "line 6, total: the stated total differs from the rows"),
        ("1234,56", "1.234,56", "line 4, Brutto: not an exact amount"),
        ("19.10.2026 08:30", "2026-10-19", "line 4, Datum: not a date and time"),
        ("Summe;2;1223,06\n", "", "the report is cut"),
    ],
)
def test_what_is_wrong_with_a_report_is_said_with_its_place(old: str, new: str, problem: str, tmp_path: Path) -> None:
    assert old in REPORT
    with pytest.raises(Rejected) as refused:
        read(tmp_path, DECLARATION, REPORT.replace(old, new, 1))
    assert problem in str(refused.value)
