"""Fusion of rankings, and pages of one."""

from localmem.memory.search import Ranking, Rankings, fuse


def test_fusion_is_the_published_formula() -> None:
    assert fuse([7, 3], [3, 9]) == [(3, 1 / 62 + 1 / 61), (7, 1 / 61), (9, 1 / 62)]
    assert fuse([], []) == []


def test_of_equal_scores_the_newer_comes_first() -> None:
    assert [id for id, _ in fuse([1, 2], [2, 1])] == [2, 1]
    assert [id for id, _ in fuse([5], [8])] == [8, 5]


def test_pages_of_a_ranking() -> None:
    ranking = Ranking(tuple((id, 0.0) for id in range(11)))
    assert ranking.pages(5) == 3
    assert [[id for id, _ in ranking.page(n, 5)] for n in (0, 1, 2, 3, 4)] == [
        [0, 1, 2, 3, 4], [0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10], [],
    ]  # fmt: skip
    assert Ranking(()).pages(5) == 0


def test_the_oldest_rankings_are_forgotten() -> None:
    rankings = Rankings()
    for key in range(40):
        rankings.keep(key, Ranking(((key, 0.0),)))
    assert rankings.get(0) is None
    assert rankings.get(39) == Ranking(((39, 0.0),))
