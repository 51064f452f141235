"""Large XML goes by an element at a time; what no bank message needs is refused the moment it begins."""

from __future__ import annotations

import tracemalloc
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.bench.files.camt_file import write_camt
from tieout import files
from tieout.files import xml_stream
from tieout.files.proof import Rejected
from tieout.files.xml_stream import Kind, Step, walk


def steps(tmp_path: Path, content: str | bytes, kept: tuple[str, ...] = ("a",)) -> list[Step]:
    path = tmp_path / "walked"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(walk(path, ("box",), kept))


def test_a_large_statement_streams_in_flat_memory(tmp_path: Path) -> None:
    path = tmp_path / "large"
    write_camt(path, 10_000)
    files.read(path, lambda table, row: None)  # what is imported at the first row is not what a file takes
    entries, total = write_camt(path, 4_000_000)
    tracemalloc.start()
    try:
        reading = files.read(path, lambda table, row: None)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (reading.entries, reading.signed_sum, reading.balance) == (entries, {"EUR": total}, "ok")
    assert entries > 5000
    assert peak < 2 << 20


def test_a_line_far_down_is_named(tmp_path: Path) -> None:
    path = tmp_path / "large"
    write_camt(path, 3_000_000)
    lines = path.read_text().splitlines()
    at = max(number for number, line in enumerate(lines, 1) if line.startswith("<Ntry>"))
    assert at > 1 << 16
    lines[at + 2] = "<CdtDbtInd>BOTH</CdtDbtInd>"
    path.write_text("\n".join(lines))
    with pytest.raises(Rejected, match="neither credit nor debit") as refused:
        files.read(path, lambda table, row: None)
    assert refused.value.line == at


def test_children_that_are_kept_come_whole_and_the_others_leave_nothing(tmp_path: Path) -> None:
    text = '<r xmlns="urn:x">\n<a>0</a><box>\n<b><a>1</a></b><a k="v">2<!-- x --> 3</a><a><c>4</c><c/></a></box></r>'
    assert steps(tmp_path, text) == [
        Step(Kind.OPENED, 2, "box", "urn:x"),
        Step(Kind.CHILD, 3, "a", {"@k": "v", "#text": "2 3"}),
        Step(Kind.CHILD, 3, "a", {"c": ["4", ""]}),
        Step(Kind.CLOSED, 3, "box"),
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "iso-8859-1", "windows-1252"])
def test_declared_encodings(encoding: str, tmp_path: Path) -> None:
    text = f'<?xml version="1.0" encoding="{encoding}"?><box><a>Müller</a></box>'
    assert steps(tmp_path, text.encode(encoding))[1].value == "Müller"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("<!DOCTYPE box><box/>", "document type declaration"),
        ('<?xml version="1.0"?><!-- c --><?p?>\n<!DOCTYPE box [<!ENTITY e "x">]><box><a>&e;</a></box>', "line 2"),
        ('<!DOCTYPE box SYSTEM "file:///etc/hostname"><box/>'.encode("utf-16"), "document type declaration"),
        ("<box><a>&e;</a></box>", "not well-formed XML"),
        ("<box><a>1</a>", "not well-formed XML"),
        ("<box/><box/>", "not well-formed XML"),
        ("<box><a>1<b/>2</a></box>", "text between elements"),
        ("<box><a><b/>2</a></box>", "text between elements"),
        ("<box><a>1<b>2</b></a></box>", "text between elements"),
        ("<box>" + "<a>" * 70 + "</a>" * 70 + "</box>", "nested too deep"),
        ("<a>" * 70 + "</a>" * 70, "nested too deep"),
        (b'<?xml version="1.0" encoding="gb18030"?><box/>', "an encoding that is not read"),
        (b'<?xml version="1.0" encoding="ebcdic"?><box/>', "an encoding that is not read"),
        (b"<box><a>\xff</a></box>", "not well-formed XML"),
        ("<box><a>\0</a></box>", "not well-formed XML"),
        ("", "not well-formed XML"),
    ],
)
def test_what_is_refused(content: str | bytes, reason: str, tmp_path: Path) -> None:
    with pytest.raises(Rejected, match=reason) as refused:
        steps(tmp_path, content)
    assert refused.value.line is not None


def test_the_words_of_a_declaration_in_a_comment_are_none(tmp_path: Path) -> None:
    assert steps(tmp_path, "<box><!-- <!DOCTYPE x> --><a><![CDATA[<!DOCTYPE]]></a></box>")[1].value == "<!DOCTYPE"


@pytest.mark.parametrize(
    ("limit", "content", "reason"),
    [
        ("ELEMENT_LIMIT", "<box><a>" + "<c>1</c>" * 40_000 + "</a></box>", "an element too large"),
        ("ELEMENT_LIMIT", "<box>" + "<b>1</b>" * 40_000 + "</box>", "an element too large"),
        ("TAG_LIMIT", '<box a="' + "x" * 400_000 + '"/>', "endless tag"),
        ("TAG_LIMIT", "<box><!--" + "x" * 400_000 + "--></box>", "endless tag"),
    ],
)
def test_what_has_no_end_is_refused_before_it_fills_the_memory(
    limit: str, content: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps(tmp_path, content)
    monkeypatch.setattr(xml_stream, limit, 100_000)
    with pytest.raises(Rejected, match=reason):
        steps(tmp_path, content)


@pytest.mark.parametrize("element", ["<n{}/>", "<a n{}='1'/>", "<a xmlns:n{}='urn:x'/>", "<a xmlns='urn:{}'/>"])
@pytest.mark.parametrize("inside", ["<box>{}</box>", "<r>{}</r>", "<box><a>{}</a></box>"])
def test_names_without_end_are_refused(inside: str, element: str, tmp_path: Path) -> None:
    content = inside.format("".join(element.format(number) for number in range(3000)))
    with pytest.raises(Rejected, match="more names than any message has"):
        steps(tmp_path, content)
    steps(tmp_path, inside.format("".join(element.format(number % 100) for number in range(3000))))


def test_elements_that_are_given_on_do_not_add_up_to_one_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(xml_stream, "ELEMENT_LIMIT", 100_000)
    assert len(steps(tmp_path, "<box>" + "<a>1</a>" * 40_000 + "</box>")) == 40_002


def paged(text: str, *pages: tuple[int, str]) -> str:
    """One statement of three entries, again and again as the pages given by number and last-page indicator."""
    head, _, rest = text.partition("<Stmt>")
    body, _, tail = rest.partition("</Stmt>")
    identity = body[: body.index("</Id>") + len("</Id>")]
    body = body.removeprefix(identity)
    statements = []
    for at, (number, last) in enumerate(pages):
        ends = "CLBD" if last == "true" else "ITBD"
        page = body.replace("CLBD", ends).replace("OPBD", "OPBD" if number == 1 else "ITBD")
        opening, closing = (f">{Decimal(minor + 21050 * at) / 100:.2f}<" for minor in (100000, 121050))
        page = page.replace(">1210.50<", closing).replace(">1000.00<", opening)
        pagination = f"<StmtPgntn><PgNb>{number}</PgNb><LastPgInd>{last}</LastPgInd></StmtPgntn>"
        statements.append(f"<Stmt>{identity}{pagination}{page}</Stmt>")
    return head + "".join(statements) + tail


def test_pages_of_a_statement_follow_each_other(read: Any, fixture_text: Any) -> None:
    outcome = read(paged(fixture_text("camt053.xml"), (1, "false"), (2, "false"), (3, "true")))
    assert outcome.rejected is None
    assert outcome.reading.balance == "ok"
    assert [(row.statement_reference, row.opening_minor, row.closing_minor)
            for row in outcome.rows["bank_statements"]] == [
        ("2026-0201/1", 100000, 121050), ("2026-0201/2", 121050, 142100), ("2026-0201/3", 142100, 163150),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("pages", "reason"),
    [
        (((1, "false"), (3, "true")), "expected page 2 of the statement, found 'page 3 of it'"),
        (((1, "false"), (1, "false")), "a page is missing or comes twice"),
        (((1, "false"), (2, "true"), (3, "true")), "expected no page after the last"),
        (((1, "perhaps"),), "not a page"),
    ],
)
def test_a_missing_page_is_refused(pages: Any, reason: str, read: Any, fixture_text: Any) -> None:
    assert reason in str(read(paged(fixture_text("camt053.xml"), *pages)).rejected)


def test_pages_may_have_the_statements_number_in_common_only(read: Any, fixture_text: Any) -> None:
    text = paged(fixture_text("camt053.xml"), (1, "false"), (2, "true"))
    head, found, tail = text.rpartition("<Id>2026-0201</Id>")
    assert found
    assert read(f"{head}<Id>2026-0201-B</Id>{tail}").rejected is None
    other = f"{head}<Id>2026-0201-B</Id>{tail.replace('<ElctrncSeqNb>201<', '<ElctrncSeqNb>202<')}"
    assert "found 'another statement'" in str(read(other).rejected)


def test_a_page_begins_where_the_page_before_it_ended(read: Any, fixture_text: Any) -> None:
    text = paged(fixture_text("camt053.xml"), (1, "false"), (2, "true"))
    moved = text.replace(">1421.00<", ">1422.00<")
    head, found, tail = moved.rpartition(">1210.50<")
    assert found
    assert "does not begin where" in str(read(f"{head}>1211.50<{tail}").rejected)


def test_what_a_statement_says_of_itself_stands_before_its_entries(read: Any, fixture_text: Any) -> None:
    lines = fixture_text("camt053.xml").splitlines()
    at = next(number for number, line in enumerate(lines) if "CLBD" in line)
    end = next(number for number, line in enumerate(lines) if "</Stmt>" in line)
    lines.insert(end, lines[at])
    assert "out of the standard's order" in str(read("\n".join(lines)).rejected)


@pytest.mark.parametrize("version", range(2, 15))
@pytest.mark.parametrize(
    ("message", "kind"), [("camt.052", "Rpt"), ("camt.053", "Stmt"), ("camt.054", "Ntfctn")]
)
def test_every_version_of_every_message(message: str, kind: str, version: int, read: Any, fixture_text: Any) -> None:
    text = fixture_text("camt053.xml").replace("camt.053.001.08", f"{message}.001.{version:02}")
    outcome = read(text.replace("<Stmt>", f"<{kind}>").replace("</Stmt>", f"</{kind}>"))
    assert (outcome.reading.format, outcome.reading.entries) == (f"{message}.001.{version:02}", 3)
    assert bool(outcome.rows) == (kind == "Stmt")
