"""Puts sequences of different rates on one grid of frames, so that each frame can be labelled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


def held_positions(frames: int, length: int) -> Tensor:
    """Returns (frames, length), 0 or 1: the position of a window that had ended last when a frame ended.

    Both divide the same window evenly. A frame that ends before the first position does has none, so
    nothing of the future gets into a frame.
    """
    picked = (torch.arange(1, frames + 1) * length) // frames - 1  # (frames,), -1 = none yet
    return (torch.arange(length) == picked[:, None]).float()


class FrameGrids(nn.Module):
    """One row for each frame and modality (ours).

    The grid is that of the present modality with the most positions in time; a subset of nothing but
    events (words) has the positions of its first modality. On the grid, a modality shows the position
    that ended last; where that is padding, and for events, it shows its mean over the window.

    Args:
        lengths: modality -> T_m.
        events: modalities whose positions are not points in time.
    """

    def __init__(self, lengths: Mapping[str, int], *, events: Sequence[str]) -> None:
        super().__init__()
        self.lengths = dict(lengths)
        self.events = tuple(events)
        timed = [m for m in lengths if m not in self.events]
        for m in timed:
            for grid in timed:
                if lengths[m] < lengths[grid]:
                    self.register_buffer(f"{m}_on_{grid}", held_positions(lengths[grid], lengths[m]))

    def grid_of(self, present: Sequence[str]) -> str:
        """Returns the modality whose positions are the frames."""
        timed = [m for m in present if m not in self.events]
        return max(timed, key=lambda m: self.lengths[m]) if timed else present[0]

    def forward(
        self, sequences: Mapping[str, Tensor], pooled: Mapping[str, Tensor], masks: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Returns modality -> (B, 1 + T, d): the mean over the window, then a row for each frame.

        Events off the grid are (B, 1, d), the same for the window and every frame. With the window in
        front, a head runs once for both: no weight is shared by two nodes of the graph.

        Args:
            sequences: modality -> (B, T_m, d).
            pooled: modality -> (B, d), means over the valid positions.
            masks: modality -> (B, T_m).
        """
        grid = self.grid_of(tuple(sequences))
        rows: dict[str, Tensor] = {}
        for m, sequence in sequences.items():
            mean = pooled[m].unsqueeze(1)
            if m != grid and m in self.events:
                rows[m] = mean
                continue
            valid, shown = masks[m].unsqueeze(-1), sequence
            if sequence.shape[1] != sequences[grid].shape[1]:
                held = self.get_buffer(f"{m}_on_{grid}")
                shown, valid = torch.matmul(held, shown), torch.matmul(held, valid)
            rows[m] = torch.cat((mean, shown * valid + mean * (1.0 - valid)), dim=1)
        return rows
