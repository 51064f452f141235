"""BAI2 cash-management balance report: one file, one group and one account a day."""

from __future__ import annotations

from tieout.sandbox.formats import Entry, Statement

OUR_ID = "TIEOUT"


def file_name(statement: Statement) -> str:
    """The report's file name."""
    return f"BAI2_{statement.account}_{statement.day:%Y%m%d}.bai"


def _type_code(entry: Entry) -> int:
    if entry.code == "charge":
        return 698
    return 195 if entry.amount_minor >= 0 else 495


def render(statement: Statement) -> str:
    """The whole file. A control total is the sum of all amounts below it, as BAI has it."""
    credits = [entry.amount_minor for entry in statement.entries if entry.amount_minor >= 0]
    debits = [-entry.amount_minor for entry in statement.entries if entry.amount_minor < 0]
    day = f"{statement.day:%y%m%d}"
    account = [
        f"03,{statement.account},{statement.currency},010,{statement.opening_minor},,,015,{statement.closing_minor},,/",
        f"88,100,{sum(credits)},{len(credits)},,400,{sum(debits)},{len(debits)},/",
    ]
    control = statement.opening_minor + statement.closing_minor + sum(credits) + sum(debits)
    for entry in statement.entries:
        account.append(
            f"16,{_type_code(entry)},{abs(entry.amount_minor)},,{entry.reference},{entry.customer_reference},/"
        )
        account.append(f"88,{entry.text}" + (f" {entry.counterparty}" if entry.counterparty else ""))
        control += abs(entry.amount_minor)
    account.append(f"49,{control},{len(account) + 1}/")
    group = [f"02,{OUR_ID},{statement.bic},1,{day},2359,{statement.currency},2/", *account]
    group.append(f"98,{control},1,{len(group) + 1}/")
    lines = [f"01,{statement.bic},{OUR_ID},{day},2359,{statement.number},,,2/", *group]
    lines.append(f"99,{control},1,{len(lines) + 1}/")
    return "\n".join(lines) + "\n"
