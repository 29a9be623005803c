"""What of a message can be quoted: its sentences, and what is made of them."""

from __future__ import annotations

import time

import pytest

from localmem.quoting import akin, nearest, passages, phrases, selections, sentences, whole


@pytest.mark.parametrize(
    ("message", "found"),
    [
        ("I am Ada. I live in Porto", ["I am Ada.", "I live in Porto"]),
        ("one thing\n\nand\tanother ", ["one thing", "and another"]),
        ("Hi! Who are you?", ["Hi! Who are you?"]),
        ("Where is it? Hm.", ["Where is it? Hm."]),
        ('She said "no." Then she left.', ['She said "no."', "Then she left."]),
        (
            "Dr. Who met J. R. Smith near St. Mary's. Rain fell.",
            ["Dr. Who met J. R. Smith near St. Mary's.", "Rain fell."],
        ),
        ("It is 3.5 km to example.org. Really far!", ["It is 3.5 km to example.org.", "Really far!"]),
        ("我住在波尔图。我的猫叫什么？", ["我住在波尔图。", "我的猫叫什么？"]),
        ("same here. same here.", ["same here."]),
        ("My sister is 5. Cats, she likes.", ["My sister is 5.", "Cats, she likes."]),
        ("We've got a tortoise. He's called Jim.", ["We've got a tortoise. He's called Jim."]),
        ("A gift for Tom? and HIS wife, please. Hermann", ["A gift for Tom? and HIS wife, please. Hermann"]),
        ("He left. Hers is the red one. Itching is bad.", ["He left.", "Hers is the red one.", "Itching is bad."]),
        (f"{'long ' * 30}night. It was cold.", [f"{'long ' * 30}night.", "It was cold."]),
        ("I sew.\nIt is fun. That’s all.", ["I sew.", "It is fun. That’s all."]),
        ("We have a dog. Yes! He's called Jim.", ["We have a dog. Yes! He's called Jim."]),
        ("i saw Tom. He… never came. hes ill", ["i saw Tom. He… never came. hes ill"]),
        ("I work at Acme. IT is my field. It pays.", ["I work at Acme.", "IT is my field. It pays."]),
        ("I live in flat B.\nMy sister does not.", ["I live in flat B.", "My sister does not."]),
        ("A list:\n-----\n* milk\n\n|---|", ["A list:", "* milk"]),
        ("bell \x07\x7f rings\tnow.\r\nStop it!", ["bell rings now.", "Stop it!"]),
        ("मैं अदा हूँ। मैं पोर्टो में रहती हूँ।", ["मैं अदा हूँ।", "मैं पोर्टो में रहती हूँ।"]),
        ("ok", ["ok"]),
        ("?! \n …", []),
        ("", []),
    ],
)
def test_sentences(message: str, found: list[str]) -> None:
    assert sentences(message) == found


def test_a_long_sentence_is_taken_in_parts_that_lose_no_word() -> None:
    words = [f"well-known-word{i}" for i in range(60)]
    found = sentences(" ".join(words))
    assert all(len(part) <= 160 for part in found)
    assert " ".join(found).split() == words


@pytest.mark.parametrize("part", ["---\n", " ", "\n", "a. ", "Oh! ", ". ", "…", "。", "-a-"])
def test_a_long_message_of_any_kind_takes_no_time(part: str) -> None:
    message = "a\n" + part * (60_000 // len(part))
    started = time.process_time()
    found = sentences(message)
    assert time.process_time() - started < 5  # a hundredth of a second; with backtracking, minutes
    assert all(len(sentence) <= 160 for sentence in found)


def test_the_whole_message_has_no_control_characters() -> None:
    assert whole("\ta\x07b\r\nc\x7f ") == "a b\nc"


def test_of_many_sentences_the_last_are_taken() -> None:
    found = sentences(" ".join(f"This is number {i}." for i in range(30)))
    assert found == [f"This is number {i}." for i in range(22, 30)]


def test_a_passage_is_a_sentence_or_up_to_three_neighbours() -> None:
    assert passages(["a a", "b b", "c c", "d d"]) == [
        "a a", "b b", "c c", "d d", "a a b b", "b b c c", "c c d d", "a a b b c c", "b b c c d d",
    ]  # fmt: skip
    assert passages(["x" * 150, "y" * 150]) == ["x" * 150, "y" * 150]


def test_a_selection_is_up_to_three_lines_in_their_order() -> None:
    assert [*map("".join, selections("abc"))] == ["a", "b", "c", "ab", "ac", "bc", "abc"]
    assert max(map(len, selections("abcd"))) == 3


def test_the_lines_that_a_message_is_about_share_a_word_with_it() -> None:
    lines = ["I live in Porto.", "My brother Tomas works as a vet.", "tea, always"]
    assert akin(lines, "Tomas has quit, he is a baker now.") == [lines[1]]
    assert akin(lines, "I have moved: no more Porto, no more brothers.") == lines[:2]
    assert akin(lines, "Not any more!") == lines
    assert akin([], "Tomas") == []


@pytest.mark.parametrize(
    ("alike", "within", "found"),
    [
        ([0.2, 0.7, 0.65], 0.1, ["b", "c"]),
        ([0.2, 0.7, 0.5], 0.1, ["b"]),
        ([0.02, -0.1, 0.0], 0.1, ["a", "c"]),
        ([0.5, 0.5, 0.5], 0.0, ["a", "b", "c"]),
    ],
)
def test_the_nearest_are_the_most_alike_and_those_close_behind(
    alike: list[float], within: float, found: list[str]
) -> None:
    assert nearest(["a", "b", "c"], alike, within) == found
    assert nearest([], [], within) == []


@pytest.mark.parametrize(
    ("message", "among"),
    [
        ("Report the broken light in Cooper's Lane.", ["Cooper's Lane", "broken light", "Report"]),
        ('add "oat milk" to report.pdf, ok?', ["oat milk", "report.pdf", "ok"]),
        ("Turn on Bela's lamp", ["Bela", "Bela's lamp", "lamp"]),
        ("tell Jo: I will be late, sorry!", ["Jo", "I will be late, sorry", "sorry"]),
        ("mail to a.b@c.org (urgent) for $5", ["a.b@c.org", "urgent", "$5"]),
        ("C++ at 7.30", ["C++", "7.30"]),
        ("Delete all *.tmp files", ["*.tmp"]),
        ("Weather in Springfield (IL) today", ["Springfield (IL)", "(IL)", "IL", "Springfield"]),
        ("Plot f(x) from 0", ["f(x)"]),
        ("open `report.pdf` now", ["report.pdf", "`report.pdf`"]),
        ("Trink „Kamillentee“ um acht", ["Kamillentee", "um acht"]),
        ("¿Dónde está «La Casa»?", ["La Casa", "Dónde está"]),
        ("the boys' room", ["boys", "the boys' room"]),
    ],
)
def test_phrases_are_the_words_without_the_marks_around_them(message: str, among: list[str]) -> None:
    found = phrases(message)
    assert set(among) <= set(found)
    assert message in found
    assert len(found) == len(set(found))


def test_phrases_of_a_long_message_are_of_its_end_and_none_are_in_scripts_without_spaces() -> None:
    found = phrases(" ".join(f"word{i}" for i in range(500)))
    assert "word499" in found
    assert "word100" not in found
    assert len(found) < 800
    assert phrases("我住在波尔图。") == []
    assert phrases("?! …") == []
    assert phrases("") == []
