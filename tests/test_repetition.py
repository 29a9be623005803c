"""When a text has begun to repeat itself."""

from __future__ import annotations

import random

import pytest

from localmem.engine.repetition import Repetition


def _first(tokens: list[int]) -> tuple[int, int] | None:
    """How many tokens it took to notice a loop, and how many of them are the loop."""
    watch = Repetition()
    for at, token in enumerate(tokens, 1):
        looping = watch.add(token)
        if looping:
            return at, looping
    return None


@pytest.mark.parametrize("length", [1, 2, 3, 7, 10, 11, 30, 64])
def test_a_loop_is_noticed_after_forty_tokens_and_four_copies(length: int) -> None:
    gram = list(range(1, length + 1))
    noticed = max(40, 4 * length)
    assert _first([*range(100, 150), *(gram * 100)]) == (50 + noticed, noticed)


@pytest.mark.parametrize("tokens", [[7] * 39, list(range(64)) * 3, list(range(65)) * 9, []])
def test_less_is_no_loop(tokens: list[int]) -> None:
    assert _first(tokens) is None


def test_random_text_is_no_loop() -> None:
    draw = random.Random(1)
    assert _first([draw.randrange(50) for _ in range(20_000)]) is None


def test_an_interrupted_loop_is_counted_anew() -> None:
    watch = Repetition()
    assert not any(map(watch.add, [1, 2] * 19))
    watch.add(3)
    assert not any(map(watch.add, [1, 2] * 19))
    watch.restart()
    assert not any(map(watch.add, [1, 2] * 19))
