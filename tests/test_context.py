"""Main context on its own: shares of the window, order, pressure, what can be evicted."""

from __future__ import annotations

import pytest

from localmem.context import MainContext, Message, Prefix, merge_due
from localmem.errors import ConfigError, ContextError
from localmem.window import MERGE_AT, MOST_SUMMARIES, Overheads, Window

OVERHEADS = Overheads(request=60, page_out=60, summary=30)


def window(n_ctx: int = 4096) -> Window:
    return Window(n_ctx, OVERHEADS)


def message(size: int, event: int, turn: int, *, opens: bool = False) -> Message:
    return Message(tuple([7] * size), (event,), turn, opens)


def context(*messages: Message, prefix: int = 100, n_ctx: int = 4096) -> MainContext:
    made = MainContext(window(n_ctx), [1, 2, 3])
    made.rebase("open", Prefix(system=(5,) * prefix))
    for one in messages:
        made.append(one)
    return made


@pytest.mark.parametrize("n_ctx", [2816, 4096, 8192, 32768, 131072])
def test_a_step_and_a_page_out_fit_behind_the_fullest_context(n_ctx: int) -> None:
    w = window(n_ctx)
    assert w.ceiling + w.call + w.result + w.overheads.request + w.page_out_call <= n_ctx
    assert w.ceiling <= w.usable == n_ctx - w.reserve
    assert MOST_SUMMARIES * (w.summary + OVERHEADS.summary) <= w.summaries
    prefix = int(0.6 * w.usable)
    assert prefix + w.message <= w.ceiling


@pytest.mark.parametrize("prefix", [0, 300, 900, 1800, 5000])
def test_the_smallest_window_that_works_is_named_and_works(prefix: int) -> None:
    smallest = window(512).smallest(prefix)
    window(smallest).check(prefix)
    with pytest.raises(ConfigError, match=f"--n-ctx {smallest} or more"):
        window(smallest - 64).check(prefix)


def test_the_prompt_is_the_segments_in_order_and_the_opening() -> None:
    made = MainContext(window(), [9])
    made.rebase("open", Prefix(summaries=(3,), system=(1,), core_memory=(2,)))
    made.append(message(2, 1, 1))
    assert made.prompt() == [1, 2, 3, 7, 7, 9]
    assert made.tokens == 6
    assert made.report()["segments"] == {"system": 1, "core_memory": 1, "summaries": 1, "messages": 2}


def test_a_position_is_named_by_its_segment() -> None:
    made = MainContext(window(), [9])
    made.rebase("open", Prefix(system=(1,) * 10, core_memory=(2,) * 5, parts=(("human", 3),)))
    made.append(message(4, 1, 1))
    places = {0: "system, token 0", 9: "system, token 9", 12: "core_memory, token 12", 15: "messages, token 15"}
    places |= {13: "core_memory.human, token 13", 19: "end, token 19"}
    assert {position: made.locate(position) for position in places} == places


def test_what_does_not_fit_is_refused_not_cut() -> None:
    with pytest.raises(ContextError, match="does not fit"):
        context(n_ctx=512).append(message(500, 1, 1))


def test_whole_turns_can_be_evicted() -> None:
    made = context(
        message(10, 1, 1, opens=True), message(20, 2, 1, opens=True),
        message(10, 3, 3, opens=True), message(20, 4, 3, opens=True),
    )  # fmt: skip
    cuts = made.cuts(None)
    assert [(cut.through, cut.index) for cut in cuts] == [(1, 1), (2, 2), (3, 3), (4, 4)]
    assert cuts[1].remaining == made.prefix + 3 + 30
    made.evict(cuts[1])
    assert made.events == {3, 4}


def test_the_message_that_is_being_answered_stays() -> None:
    made = context(
        message(10, 1, 1, opens=True), message(20, 2, 1, opens=True),
        message(10, 3, 3, opens=True), message(20, 4, 3, opens=True), message(5, 5, 3), message(20, 6, 3, opens=True),
        message(5, 7, 3),
    )  # fmt: skip
    made.evict(made.cuts(3)[-1])
    assert [one.events for one in made.messages] == [(3,), (6,), (7,)]


def test_what_was_not_read_yet_goes_only_if_nothing_else_can() -> None:
    made = context(message(10, 1, 1, opens=True), message(20, 2, 1, opens=True), message(5, 3, 1))
    cuts = made.cuts(1)
    assert [cut.index for cut in cuts] == [3]
    made.evict(cuts[0])
    assert [one.events for one in made.messages] == [(1,)]
    assert made.cuts(1) == []


def test_a_due_page_out_frees_half_of_the_message_space() -> None:
    turns = [message(300, i, i, opens=True) for i in range(1, 10)]
    made = context(*turns)
    room = made.window.ceiling - made.prefix
    assert all(cut.remaining + made.window.summary <= made.prefix + room // 2 for cut in made.due_cuts(None))


@pytest.mark.parametrize(
    ("levels", "due"),
    [
        ([], None),
        ([0] * (MERGE_AT - 1), None),
        ([0] * MERGE_AT, (0, 3)),
        ([1, 0, 0, 0], (1, 4)),
        ([1, 1, 1, 0], (0, 3)),
        ([2, 1, 1], None),
        ([2, 2, 0], (0, 2)),
    ],
)
def test_summaries_merge_like_the_digits_of_a_counter(levels: list[int], due: tuple[int, int] | None) -> None:
    assert merge_due(levels) == due


def test_the_number_of_summaries_is_bounded_however_many_page_outs_there_are() -> None:
    levels: list[int] = []
    for _ in range(2000):
        levels.append(0)
        assert len(levels) <= MOST_SUMMARIES
        while (due := merge_due(levels)) is not None:
            start, end = due
            levels[start:end] = [min(levels[start] + 1, 2)]
        assert levels == sorted(levels, reverse=True)
