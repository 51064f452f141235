"""The time zone abbreviations that reports write beside a time, with the offset that each of them means."""

from __future__ import annotations

from datetime import timedelta, timezone

# Offsets in minutes of the names. Names that several zones share (CST, IST, AST) are not here:
# a wrong guess would move payments to another day.
ZONES = {
    "UTC": 0, "GMT": 0, "WET": 0, "WEST": 60, "BST": 60, "CET": 60, "CEST": 120, "EET": 120, "EEST": 180, "MSK": 180,
    "PST": -480, "PDT": -420, "MST": -420, "MDT": -360, "EST": -300, "EDT": -240, "BRT": -180, "GST": 240,
    "SGT": 480, "HKT": 480, "AWST": 480, "JST": 540, "KST": 540, "ACST": 570, "ACDT": 630, "AEST": 600, "AEDT": 660,
    "NZST": 720, "NZDT": 780,
}  # fmt: skip
OFFSETS = {name: timezone(timedelta(minutes=minutes), name) for name, minutes in ZONES.items()}
ZONE_REMEDY = "set the account's report zone to one of these, or add the name and its offset to tieout/files/zones.py"
