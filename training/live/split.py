"""Which rows of the train splits the stems never see, so that the trunk meets honest features."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

EVERY = 8


def trunk_rows(count: int) -> NDArray[np.bool_]:
    """Returns a mask of the rows kept from stem training, every 8th one.

    A stem is overconfident on samples that it was trained on; the trunk, its adapters and the
    temperatures are fitted with rows that the stem has not seen.

    Args:
        count: rows in the train split, in the order of the file.

    Returns:
        (count,) True where the row belongs to the trunk alone.
    """
    return np.equal(np.arange(count) % EVERY, 0)
