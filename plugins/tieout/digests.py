"""MD5 of many short texts: what rows and keys are known by, as PostgreSQL's ``md5()`` gives it. It guards no secret."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from functools import partial
from importlib import import_module
from typing import Any

md5: Callable[[bytes], Any]
try:
    # CPython's own: OpenSSL takes four times as long, nearly all of it to get ready for a text so short.
    md5 = import_module("_md5").md5
except ImportError:  # this Python was built without it
    md5 = partial(hashlib.md5, usedforsecurity=False)

HEX_DIGITS = 15  # 60 bits: the largest whole number of hexadecimal digits that a bigint holds without its sign


def md5_hex(texts: Iterable[bytes]) -> list[str]:
    """The MD5 of each text in 32 hexadecimal digits."""
    return [md5(text).hexdigest() for text in texts]


def md5_sum(texts: Iterable[bytes]) -> int:
    """The sum of the first :data:`HEX_DIGITS` hexadecimal digits of the texts' MD5s."""
    return sum([int(md5(text).hexdigest()[:HEX_DIGITS], 16) for text in texts])
