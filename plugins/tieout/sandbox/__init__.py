"""A payments world with planted, labelled trouble: a payment system's database and what the outside world sends.

    world        makes the sandbox, plays its days          days       calendar, business days, the checks' clock
    market       what is fixed: markets, contracts, banks   rates      reference rates
    traffic      ordinary payments                          trouble    planted ones, as ``trouble_plan`` says
    events       what happens to a payment                  treasury   merchants' payouts, conversions, charges
    processors   batches, reports, ``payouts``              bank       entries and statements
    ledger       the payment system's tables                formats    one writer a file format
    book         where the system's book and the bank's accounts disagree
    truth        what must be open at which close           spool, state, landing_place   what lies on disk

The world is the same for the same seed and size, whatever the processes and the crashes on the way.
"""

from tieout.sandbox.days import BUSINESS_DAYS, CLOSES, SLOW_START, as_of, starts_at
from tieout.sandbox.trouble_plan import KINDS
from tieout.sandbox.world import DayReport, SandboxError, advance, create, truth_files

__all__ = [
    "BUSINESS_DAYS",
    "CLOSES",
    "KINDS",
    "SLOW_START",
    "DayReport",
    "SandboxError",
    "advance",
    "as_of",
    "create",
    "starts_at",
    "truth_files",
]
