"""Compact columns: a run has one number a window of many, and every process holds them."""

from typing import Any

import numpy as np


def whole_number(largest: int) -> type[np.signedinteger[Any]]:
    """The type of whole numbers up to `largest`: four bytes wherever they suffice."""
    return np.int32 if largest < 2**31 else np.int64
