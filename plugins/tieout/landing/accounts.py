"""The accounts that are ours, as the seeds ``bank_accounts.csv`` and ``settlement_accounts.csv`` declare them.

Read from the dbt project like the registry: a new account needs its row there and the next run.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from tieout import files
from tieout.landing.register import HeldFile
from tieout.sources import RegistryError, default_project

BANK_ORIGIN = "bank"
BANK_SEED = "bank_accounts.csv"
PROCESSOR_SEED = "settlement_accounts.csv"


@dataclass(frozen=True)
class DeclaredAccounts:
    """Numbers of our bank accounts, and (processor, account) of ours at processors."""

    bank: frozenset[str]
    processor: frozenset[tuple[str, str]]

    def refuse_strangers(self, reading: files.Reading) -> None:
        """Hold a file that speaks of an account nobody has declared.

        :raises HeldFile: naming the account and the seed that lacks it.
        """
        for account in reading.accounts:
            if reading.origin == BANK_ORIGIN:
                known, what, seed = account in self.bank, f"bank account {account}", BANK_SEED
            else:
                known = (str(reading.origin), account) in self.processor
                what, seed = f"account {account} at {reading.origin}", PROCESSOR_SEED
            if not known:
                raise HeldFile(
                    f"{what} is not declared as one of ours: find out whose file this is. If the account is ours, add "
                    f"it to seeds/{seed}; the next run loads the file"
                )


def declared_accounts(project: Path | None = None) -> DeclaredAccounts:
    """Read both seeds of the dbt project.

    :param project: the dbt project's folder, by default :func:`tieout.sources.default_project`.
    :raises RegistryError: a seed is missing or lacks a column.
    """
    seeds = (project or default_project()) / "seeds"
    bank = _read(seeds / BANK_SEED, "bank_account")
    processor = _read(seeds / PROCESSOR_SEED, "processor", "processor_account")
    return DeclaredAccounts(frozenset(account for (account,) in bank), frozenset((p, a) for p, a in processor))


def _read(path: Path, *columns: str) -> list[tuple[str, ...]]:
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            return [tuple(row[column] for column in columns) for row in csv.DictReader(stream)]
    except FileNotFoundError as error:
        raise RegistryError(f"{path} is missing: it declares our accounts") from error
    except KeyError as error:
        raise RegistryError(f"{path} has no column {error}: it declares our accounts") from error
