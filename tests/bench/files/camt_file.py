"""A large camt.053 that proves itself, to measure and to test how the reader streams."""

from __future__ import annotations

from pathlib import Path

_HEAD = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<Document xmlns="urn:iso:std:iso:20022:tech:xsd:camt.053.001.08"><BkToCstmrStmt>\n'
    "<GrpHdr><MsgId>M-1</MsgId><CreDtTm>2026-10-19T22:00:00Z</CreDtTm></GrpHdr>\n"
    "<Stmt><Id>2026-0201</Id><ElctrncSeqNb>201</ElctrncSeqNb><CreDtTm>2026-10-19T22:00:00Z</CreDtTm>\n"
    "<Acct><Id><IBAN>NL00BANK0000000001</IBAN></Id><Ccy>EUR</Ccy></Acct>\n"
)
_BALANCE = (
    '<Bal><Tp><CdOrPrtry><Cd>{code}</Cd></CdOrPrtry></Tp><Amt Ccy="EUR">{amount}</Amt>'
    "<CdtDbtInd>CRDT</CdtDbtInd><Dt><Dt>2026-10-19</Dt></Dt></Bal>\n"
)
_ENTRY = """<Ntry>
<NtryRef>{number:010}</NtryRef>
<Amt Ccy="EUR">{amount}</Amt>
<CdtDbtInd>{side}</CdtDbtInd>
<Sts><Cd>BOOK</Cd></Sts>
<BookgDt><Dt>2026-10-19</Dt></BookgDt>
<ValDt><Dt>2026-10-20</Dt></ValDt>
<AcctSvcrRef>B-{number:010}</AcctSvcrRef>
<BkTxCd><Domn><Cd>PMNT</Cd><Fmly><Cd>RCDT</Cd><SubFmlyCd>ESCT</SubFmlyCd></Fmly></Domn></BkTxCd>
<NtryDtls><TxDtls>
<Refs><AcctSvcrRef>B-{number:010}</AcctSvcrRef><EndToEndId>E2E-{number:010}</EndToEndId></Refs>
<Amt Ccy="EUR">{amount}</Amt>
<CdtDbtInd>{side}</CdtDbtInd>
<RltdPties>
<Dbtr><Pty><Nm>Acme and Sons {number:010}</Nm></Pty></Dbtr>
<DbtrAcct><Id><IBAN>DE00BANK{number:014}</IBAN></Id></DbtrAcct>
<Cdtr><Pty><Nm>Merchant</Nm></Pty></Cdtr>
</RltdPties>
<RmtInf><Ustrd>TX{number:010} invoice of October 2026</Ustrd></RmtInf>
</TxDtls></NtryDtls>
</Ntry>
"""
OPENING_MINOR = 100_000_000


def write_camt(path: Path, size_bytes: int) -> tuple[int, int]:
    """Write one statement of about ``size_bytes``; every third entry takes money out.

    :returns: the number of entries, and their sum in minor units of EUR.
    """
    entries = max(1, size_bytes // len(_entry(0)))
    total = sum(map(_minor, range(entries)))
    with path.open("w", encoding="utf-8") as stream:
        stream.write(_HEAD)
        stream.write(_BALANCE.format(code="OPBD", amount=_major(OPENING_MINOR)))
        stream.write(_BALANCE.format(code="CLBD", amount=_major(OPENING_MINOR + total)))
        stream.writelines(map(_entry, range(entries)))
        stream.write("</Stmt></BkToCstmrStmt></Document>\n")
    return entries, total


def _minor(number: int) -> int:
    return (1000 + 37 * (number % 997)) * (-1 if number % 3 == 2 else 1)


def _entry(number: int) -> str:
    minor = _minor(number)
    return _ENTRY.format(number=number, amount=_major(abs(minor)), side="DBIT" if minor < 0 else "CRDT")


def _major(minor: int) -> str:
    return f"{minor // 100}.{minor % 100:02}"
