"""The tools that people load Postgres with today, each in an environment of its own, for the benchmark only."""

from __future__ import annotations

import subprocess
import venv
from dataclasses import dataclass
from pathlib import Path

# The fastest documented way of each between two Postgres databases.
DLT = """
import sys
import dlt
from dlt.sources.sql_database import sql_table
source, target, folder = sys.argv[1:]
driver = source.replace("postgresql://", "postgresql+psycopg2://")
rows = sql_table(credentials=driver, schema="shop", table="payments", backend="pyarrow", chunk_size=100_000)
pipeline = dlt.pipeline("bench", pipelines_dir=folder, dataset_name="dlt",
                        destination=dlt.destinations.postgres(target))
pipeline.run(rows, loader_file_format="csv", write_disposition="replace")
"""
QUIET = {
    "RUNTIME__DLTHUB_TELEMETRY": "false",
    "TELEMETRY_DISABLED": "true",
    "DISABLE_TELEMETRY": "true",
    "SLING_DISABLE_TELEMETRY": "true",
    "RUNTIME__LOG_LEVEL": "CRITICAL",
}


@dataclass(frozen=True)
class Peer:
    """A tool: what to install, how to run it, and the table it makes."""

    name: str
    packages: tuple[str, ...]
    target: str


PEERS = (
    Peer("dlt", ("dlt[postgres]==1.31.0", "pyarrow", "sqlalchemy", "psycopg2-binary"), "dlt.payments"),
    Peer("sling", ("sling-linux-amd64==1.4.11",), "sling.payments"),
    Peer("ingestr", ("ingestr==0.15.9",), "ingestr.payments"),
)


def install(peer: Peer, folder: Path) -> str | None:
    """Install a tool into ``folder/<name>`` unless it is there.

    :returns: why it could not be installed, None when it is there.
    """
    place = folder / peer.name
    stamp = place / "installed"
    wanted = "\n".join(peer.packages)
    if stamp.exists() and stamp.read_text() == wanted:
        return None
    venv.create(place, with_pip=True, clear=True)
    done = subprocess.run(
        [place / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *peer.packages],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["pip failed"])[-1]
    stamp.write_text(wanted)
    return None


def command(peer: Peer, folder: Path, source: str, target: str, scratch: Path) -> list[str]:
    """How to copy ``shop.payments`` with it, as an argument list."""
    place = folder / peer.name
    if peer.name == "dlt":
        # It insists on a password; the benchmark's server asks for none.
        insisted = [dsn.replace("postgres@", "postgres:none@") for dsn in (source, target)]
        return [str(place / "bin" / "python"), "-c", DLT, *insisted, str(scratch / "dlt")]
    if peer.name == "sling":
        (binary,) = place.rglob("bin/sling-linux-amd64")
        return [
            str(binary), "run", "--src-conn", f"{source}?sslmode=disable", "--src-stream", "shop.payments",
            "--tgt-conn", f"{target}?sslmode=disable", "--tgt-object", peer.target, "--mode", "full-refresh",
        ]  # fmt: skip
    return [
        str(place / "bin" / "ingestr"), "ingest", "--source-uri", source, "--source-table", "shop.payments",
        "--dest-uri", target, "--dest-table", peer.target, "--yes", "--progress", "log",
        "--sql-backend", "pyarrow", "--pipelines-dir", str(scratch / "ingestr"),
    ]  # fmt: skip
