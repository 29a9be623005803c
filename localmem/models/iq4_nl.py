"""IQ4_NL: four bits a weight, by a table of sixteen uneven values, and one scale for 32 weights.

The gguf package reads this type and does not write it. Of the scales tried for a block, the one with the least squared
error is taken: such files are as small and as fast as Q4_0, with a quarter less of its squared error. Format and table:
ggml's block_iq4_nl. Knows no model and no file.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

BLOCK = 32  # weights of one scale

_TABLE = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.float32)
#: For each number from -128 to 127 the place in the table of the value nearest to it.
_NEAREST = np.abs(np.arange(-128, 128)[:, None] - _TABLE).argmin(axis=1).astype(np.uint8)
#: A block whose weights are all smaller is as good as empty: float16 has no scale for it.
_LEAST = 1e-30
#: What the largest weight of a block may come to: near the ends of the table, where its steps are wide, and below.
_LARGEST = (-135.0, -127.0, -119.0, -111.0, -104.0, -97.0, -90.0, 113.0, 105.0, 98.0)


def quantised(weights: Floats) -> NDArray[np.uint8]:
    """`weights` of shape (rows, a multiple of 32) as bytes of shape (rows, those of a row)."""
    scales, places = _searched(weights.reshape(-1, BLOCK))
    low, high = np.split(places, 2, axis=1)
    blocks = np.hstack([scales.view(np.uint8).reshape(-1, 2), low | (high << 4)])
    return blocks.reshape(len(weights), -1)


def rounded(weights: Floats) -> Floats:
    """What is read of `weights` that were written."""
    scales, places = _searched(weights.reshape(-1, BLOCK))
    return (scales.astype(np.float32)[:, None] * _TABLE[places]).reshape(weights.shape)


def _searched(blocks: Floats) -> tuple[NDArray[np.float16], NDArray[np.uint8]]:
    """The scale of each block, and the places of its weights in the table."""
    largest = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=1)[:, None], axis=1)
    errors = np.full(len(blocks), np.inf, np.float32)
    scales = np.zeros(len(blocks), np.float16)
    places = np.zeros(blocks.shape, np.uint8)
    for value in _LARGEST:
        inverse = np.divide(value, largest, out=np.zeros_like(largest), where=np.abs(largest) > _LEAST)
        tried = _NEAREST[np.clip(np.rint(blocks * inverse), -128, 127).astype(np.int16) + 128]
        levels = _TABLE[tried]
        # The scale that fits these levels best, in least squares.
        scale = (np.einsum("bi,bi->b", levels, blocks) / np.einsum("bi,bi->b", levels, levels)).astype(np.float16)
        off = blocks - scale.astype(np.float32)[:, None] * levels
        error = np.einsum("bi,bi->b", off, off)
        better = error < errors
        errors, scales = np.where(better, error, errors), np.where(better, scale, scales)
        places[better] = tried[better]
    return scales, places
