"""ISO 20022 bank-to-customer statement, camt.053.001.08: one file a statement."""

from __future__ import annotations

from datetime import datetime
from xml.sax.saxutils import escape

from tieout.sandbox.days import ZONE, at
from tieout.sandbox.formats import Entry, Statement, major_units

NAMESPACE = "urn:iso:std:iso:20022:tech:xsd:camt.053.001.08"


def file_name(statement: Statement) -> str:
    """The statement's file name."""
    return f"camt053_{statement.account}_{statement.day:%Y%m%d}.xml"


def _local(instant: datetime) -> str:
    return instant.astimezone(ZONE).isoformat()


def _side(minor: int) -> str:
    return "CRDT" if minor >= 0 else "DBIT"


def _balance(kind: str, minor: int, statement: Statement) -> str:
    currency = statement.currency
    return (
        f"      <Bal><Tp><CdOrPrtry><Cd>{kind}</Cd></CdOrPrtry></Tp>"
        f'<Amt Ccy="{currency}">{major_units(abs(minor), currency)}</Amt><CdtDbtInd>{_side(minor)}</CdtDbtInd>'
        f"<Dt><Dt>{statement.day}</Dt></Dt></Bal>\n"
    )


def _transaction_code(entry: Entry) -> str:
    if entry.code == "charge":
        codes = ("ACMT", "MDOP", "CHRG")
    elif entry.code == "return":
        codes = ("PMNT", "RCDT", "RRTN")
    else:
        codes = ("PMNT", "RCDT" if entry.amount_minor >= 0 else "ICDT", "ESCT")
    return (
        f"<BkTxCd><Domn><Cd>{codes[0]}</Cd><Fmly><Cd>{codes[1]}</Cd>"
        f"<SubFmlyCd>{codes[2]}</SubFmlyCd></Fmly></Domn></BkTxCd>"
    )


def _entry(entry: Entry, statement: Statement) -> str:
    amount = f'<Amt Ccy="{statement.currency}">{major_units(abs(entry.amount_minor), statement.currency)}</Amt>'
    side = f"<CdtDbtInd>{_side(entry.amount_minor)}</CdtDbtInd>"
    reversal = "<RvslInd>true</RvslInd>" if entry.is_reversal else ""
    party = ""
    if entry.counterparty:
        role = "Dbtr" if entry.amount_minor >= 0 else "Cdtr"
        party = f"<RltdPties><{role}><Pty><Nm>{escape(entry.counterparty)}</Nm></Pty></{role}></RltdPties>"
    return (
        f"      <Ntry><NtryRef>{entry.reference}</NtryRef>{amount}{side}{reversal}<Sts><Cd>BOOK</Cd></Sts>"
        f"<BookgDt><Dt>{statement.day}</Dt></BookgDt><ValDt><Dt>{statement.day}</Dt></ValDt>"
        f"<AcctSvcrRef>{entry.reference}</AcctSvcrRef>{_transaction_code(entry)}"
        f"<NtryDtls><TxDtls><Refs><AcctSvcrRef>{entry.reference}</AcctSvcrRef>"
        f"<EndToEndId>{escape(entry.customer_reference or 'NOTPROVIDED')}</EndToEndId></Refs>{amount}{side}{party}"
        f"<RmtInf><Ustrd>{escape(entry.text)}</Ustrd></RmtInf></TxDtls></NtryDtls></Ntry>\n"
    )


def render(statement: Statement) -> str:
    """The whole file."""
    identity = f"{statement.account[-10:]}-{statement.day.year}-{statement.number:05d}"
    created = _local(at(statement.day, 23, 30))
    credits = [e.amount_minor for e in statement.entries if e.amount_minor >= 0]
    debits = [-e.amount_minor for e in statement.entries if e.amount_minor < 0]
    total = statement.closing_minor - statement.opening_minor
    summary = (
        f"      <TxsSummry><TtlNtries><NbOfNtries>{len(statement.entries)}</NbOfNtries><TtlNetNtry>"
        f"<Amt>{major_units(abs(total), statement.currency)}</Amt><CdtDbtInd>{_side(total)}</CdtDbtInd></TtlNetNtry>"
        f"</TtlNtries>"
        f"<TtlCdtNtries><NbOfNtries>{len(credits)}</NbOfNtries>"
        f"<Sum>{major_units(sum(credits), statement.currency)}</Sum></TtlCdtNtries>"
        f"<TtlDbtNtries><NbOfNtries>{len(debits)}</NbOfNtries>"
        f"<Sum>{major_units(sum(debits), statement.currency)}</Sum></TtlDbtNtries></TxsSummry>\n"
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<Document xmlns="{NAMESPACE}">\n  <BkToCstmrStmt>\n'
        f"    <GrpHdr><MsgId>{identity}</MsgId><CreDtTm>{created}</CreDtTm>"
        "<MsgPgntn><PgNb>1</PgNb><LastPgInd>true</LastPgInd></MsgPgntn></GrpHdr>\n"
        f"    <Stmt>\n      <Id>{identity}</Id><ElctrncSeqNb>{statement.number}</ElctrncSeqNb>"
        f"<CreDtTm>{created}</CreDtTm>\n"
        f"      <FrToDt><FrDtTm>{_local(at(statement.day, 0))}</FrDtTm>"
        f"<ToDtTm>{_local(at(statement.day, 23, 59, 59))}</ToDtTm></FrToDt>\n"
        f"      <Acct><Id><IBAN>{statement.account}</IBAN></Id><Ccy>{statement.currency}</Ccy>"
        f"<Ownr><Nm>Tieout Store B.V.</Nm></Ownr><Svcr><FinInstnId><BICFI>{statement.bic}</BICFI>"
        f"<Nm>{escape(statement.bank)}</Nm></FinInstnId></Svcr></Acct>\n"
        + _balance("OPBD", statement.opening_minor, statement)
        + _balance("CLBD", statement.closing_minor, statement)
        + summary
        + "".join(_entry(entry, statement) for entry in statement.entries)
        + "    </Stmt>\n  </BkToCstmrStmt>\n</Document>\n"
    )
