"""IQ4_NL as it is written here: read back by the gguf package, and how near it comes."""

from __future__ import annotations

import numpy as np
import pytest
from gguf import GGMLQuantizationType, quants

from localmem.models.iq4_nl import BLOCK, quantised, rounded


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).normal(scale=0.05, size=shape).astype(np.float32)


def read(data: np.ndarray) -> np.ndarray:
    return quants.dequantize(data, GGMLQuantizationType.IQ4_NL)


@pytest.mark.parametrize(
    "weights",
    [
        normal(40, 96),
        np.zeros((2, BLOCK), np.float32),
        np.full((1, BLOCK), -3.0, np.float32),
        normal(3, 64) * 1e-7,
        np.full((2, BLOCK), 1e-38, np.float32),
        normal(3, 64) * 1e4,
        np.eye(BLOCK, dtype=np.float32),
    ],
)
def test_what_is_read_is_what_was_rounded(weights: np.ndarray) -> None:
    data = quantised(weights)
    assert data.dtype == np.uint8
    assert data.shape == (len(weights), weights.shape[1] // BLOCK * 18)
    assert np.array_equal(read(data), rounded(weights))


def test_it_is_nearer_than_q4_0() -> None:
    weights = normal(200, 320)
    other = quants.dequantize(quants.quantize(weights, GGMLQuantizationType.Q4_0), GGMLQuantizationType.Q4_0)
    assert np.square(rounded(weights) - weights).sum() < 0.8 * np.square(other - weights).sum()


def test_no_weight_is_off_by_more_than_half_of_the_widest_step() -> None:
    weights = normal(64, 128)
    off = np.abs(rounded(weights) - weights).reshape(-1, BLOCK)
    largest = np.abs(weights).reshape(-1, BLOCK).max(axis=1)
    assert (off.max(axis=1) < 0.2 * largest).all()


def test_weights_that_the_table_holds_stay_as_they_are() -> None:
    table = np.array(quants.IQ4_NL.kvalues * 2, np.float32)[None] * np.float32(0.125)
    assert np.array_equal(rounded(table), table)
