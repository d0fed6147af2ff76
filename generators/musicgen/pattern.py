"""The delay pattern: in which column of the token table stands which frame of which codebook.

MusicGen predicts one column at a time; a codebook runs some columns behind those before it, so that the finer ones are
chosen when the coarser ones of the same frame are known. Left and right channel of a stereo model run side by side.

**Conventions**: codes are `[codebooks, frames]`, columns `[codebooks, 1 + frames + longest delay]`; column 0 holds the
special token that starts everything, as do the corners that a delay leaves empty.

**Source**: MusicGen (Copet et al. 2023, arXiv:2306.05284), section 2.2.
"""

import torch
from torch import Tensor

TO_DRAW = -1
"""Stands in a column for a token that is to be drawn."""


def delays(codebooks: int, channels: int) -> list[int]:
    """Return by how many columns each codebook is late.

    >>> delays(4, channels=1), delays(8, channels=2)
    ([0, 1, 2, 3], [0, 0, 1, 1, 2, 2, 3, 3])
    """
    return [codebook // channels for codebook in range(codebooks)]


def columns_of(known: Tensor, frames: int, delay: list[int], special: int) -> Tensor:
    """Return the table to fill: what is known of a clip in its columns, `TO_DRAW` for the rest of its frames.

    Args:
        known: codes that the clip begins with; of 0 frames for none.
        frames: of the whole clip.
        delay: of each codebook, in columns.
        special: the token of column 0 and of the empty corners.

    Shape:
        `[codebooks, known frames]` -> `[codebooks, 1 + frames + longest delay]`, int64
    """
    columns = torch.full((len(delay), 1 + frames + max(delay)), special, dtype=torch.int64)
    for codebook, late in enumerate(delay):
        begin = 1 + late
        columns[codebook, begin : begin + frames] = TO_DRAW
        columns[codebook, begin : begin + known.shape[1]] = known[codebook]
    return columns


def codes_of(columns: Tensor, delay: list[int]) -> Tensor:
    """Return the codes that stand in a filled table.

    Shape:
        `[..., codebooks, 1 + frames + longest delay]` -> `[..., codebooks, frames]`
    """
    frames = columns.shape[-1] - 1 - max(delay)
    rows = [columns[..., codebook, 1 + late : 1 + late + frames] for codebook, late in enumerate(delay)]
    return torch.stack(rows, dim=-2)
