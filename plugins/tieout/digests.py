"""MD5 of many short texts: what rows and keys are known by, as PostgreSQL's ``md5()`` gives it. It guards no secret."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np

md5: Callable[[bytes], Any]
try:
    # CPython's own: OpenSSL takes four times as long, nearly all of it to get ready for a text so short.
    md5 = import_module("_md5").md5
except ImportError:  # this Python was built without it
    md5 = partial(hashlib.md5, usedforsecurity=False)

HEX_DIGITS = 15  # 60 bits: the largest whole number of hexadecimal digits that a bigint holds without its sign
_BITS_OVER, _HALF = 64 - 4 * HEX_DIGITS, 30


def md5_hex(texts: Iterable[bytes]) -> list[str]:
    """The MD5 of each text in 32 hexadecimal digits."""
    return [md5(text).hexdigest() for text in texts]


def md5_sum(texts: Iterable[bytes]) -> int:
    """The sum of the first :data:`HEX_DIGITS` hexadecimal digits of the texts' MD5s."""
    first_halves = np.frombuffer(b"".join([md5(text).digest() for text in texts]), ">u8")[::2] >> _BITS_OVER
    # Their sum may need more than 64 bits; of halves it does not.
    return (int((first_halves >> _HALF).sum()) << _HALF) + int((first_halves & (1 << _HALF) - 1).sum())
