"""Bounded buffers between a stream and the engines: aligned blocks in, right-aligned windows out."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]


class BlockBuffer:
    """Cuts a stream of items into blocks aligned to its start, each with its left context.

    A stem runs on one block at a time, always of the same shape, so its answers do not depend on how
    the stream was chunked. Items before the start of the stream are rows of zeros.

    Args:
        block: items in a block.
        left_context: items before the block that the stem also sees.
        item_shape: shape of one item, such as (64,) for a frame of log-mel bands.
    """

    def __init__(self, *, block: int, left_context: int, item_shape: tuple[int, ...]) -> None:
        self._block = block
        self._left_context = left_context
        self._item_shape = item_shape
        self.reset()

    def reset(self) -> None:
        """Forgets everything; the next item is the first of a new stream."""
        self._items: Float32 = np.zeros((self._left_context, *self._item_shape), np.float32)
        self._taken = 0

    @property
    def taken(self) -> int:
        """How many blocks have been handed out since the start of the stream."""
        return self._taken

    def push(self, items: Float32) -> None:
        """Appends items (N, *item_shape)."""
        if len(items):
            self._items = np.concatenate([self._items, items])

    def take(self, *, up_to_item: int) -> Iterator[Float32]:
        """Yields each complete block (left_context + block, *item_shape) that ends by `up_to_item`.

        Args:
            up_to_item: items since the start of the stream that may be looked at.
        """
        span = self._left_context + self._block
        while len(self._items) >= span and (self._taken + 1) * self._block <= up_to_item:
            block = self._items[:span]
            self._items = self._items[self._block :]
            self._taken += 1
            yield block


class FeatureWindow:
    """The last `length` features of a stream, each in a slot of stream time.

    Slots count periods since the stream's time zero, so a feature that never came leaves a hole (mask 0)
    instead of moving the others.

    Args:
        length: slots in the window.
        width: numbers in a feature.
    """

    def __init__(self, *, length: int, width: int) -> None:
        self._length = length
        self._features: Float32 = np.zeros((length, width), np.float32)
        self._slots: NDArray[np.int64] = np.full(length, -1, np.int64)
        self._mask_of_full: Float32 = np.ones((1, length), np.float32)
        self.clear()

    def clear(self) -> None:
        """Forgets all features, so that none of them can pass for a fresh one later."""
        self._slots[:] = -1
        self._newest = -1
        self._unbroken = 0  # slots up to the newest that are filled for certain, one after the other

    def put(self, slot: int, feature: Float32) -> None:
        """Stores a feature (width,) in its slot; a slot older than the window is not kept.

        Args:
            slot: non-negative number of the period.
            feature: copied.
        """
        place = slot % self._length
        if slot >= self._slots[place]:
            self._slots[place] = slot
            self._features[place] = feature
            if slot > self._newest:
                self._unbroken = self._unbroken + 1 if slot == self._newest + 1 else 1
                self._newest = slot

    def put_all(self, first_slot: int, features: Float32) -> None:
        """Stores features (n, width) in the slots from `first_slot` on, as `put` does one by one."""
        count, place = len(features), first_slot % self._length
        if first_slot != self._newest + 1 or place + count > self._length:
            for offset in range(count):
                self.put(first_slot + offset, features[offset])
            return
        self._slots[place : place + count] = range(first_slot, first_slot + count)
        self._features[place : place + count] = features
        self._unbroken += count
        self._newest += count

    def view(self, newest_slot: int) -> tuple[Float32, Float32]:
        """Returns the window that ends with `newest_slot`, as copies.

        Returns:
            features (1, length, width), the newest last, zeros where there is none; mask (1, length),
            1 where there is one.
        """
        if self._is_full(newest_slot):
            cut = (newest_slot + 1) % self._length
            whole = np.concatenate((self._features[cut:], self._features[:cut]))
            return whole[None], self._mask_of_full.copy()
        wanted = np.arange(newest_slot - self._length + 1, newest_slot + 1)
        places = wanted % self._length
        held = (self._slots[places] == wanted) & (wanted >= 0)
        features = self._features[places] * held[:, None]
        return features[None], held.astype(np.float32)[None]

    def count(self, newest_slot: int) -> int:
        """Returns how many slots of the window that ends with `newest_slot` are filled."""
        if self._is_full(newest_slot):
            return self._length
        oldest = max(newest_slot - self._length, -1)
        return int(np.count_nonzero((self._slots > oldest) & (self._slots <= newest_slot)))

    def _is_full(self, newest_slot: int) -> bool:
        """Whether the window that ends with `newest_slot` surely has no hole, as mostly in a stream."""
        return newest_slot == self._newest and self._unbroken >= self._length
