"""Whether answers suffer: 25 facts put into core memory and 25 questions about them, under ours and under a yardstick.

The facts are saved by dictated calls, the same under each policy; the questions are answered by the model itself,
greedily, under the real grammar, `send_message` alone being on offer. A page-out that becomes due is the model's own,
too. An answer is right if the word that was saved is in it. Measures and scores; knows nothing of significance.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from localmem.bench.kv import Contest, Side
from localmem.events import write_call

#: What is asked about, the words of each set of facts, what the user says, what is saved, and the question.
_FACTS: tuple[tuple[tuple[str, str, str, str], str, str, str], ...] = (
    (("Miso", "Olive", "Pixel", "Biscuit"), "My cat is called {}.", "Cat: {}", "What is my cat called?"),
    (("Porto", "Ghent", "Turin", "Bergen"), "I grew up in {}.", "Grew up in {}", "In which city did I grow up?"),
    (("Teresa", "Marta", "Ingrid", "Paula"), "My teacher is called {}.", "Teacher: {}", "Who is my teacher?"),
    (("cello", "oboe", "harp", "viola"), "I play the {}.", "Plays the {}", "Which instrument do I play?"),
    (("Tom", "Felix", "Oscar", "Hugo"), "My brother is called {}.", "Brother: {}", "What is my brother's name?"),
    (("hazelnut", "peanut", "shrimp", "celery"), "I am allergic to {}.", "Allergy: {}", "What am I allergic to?"),
    (("green", "purple", "orange", "yellow"), "My favourite colour is {}.", "Likes {}", "What is my favourite colour?"),
    (("nurse", "baker", "pilot", "lawyer"), "I work as a {}.", "Job: {}", "What is my job?"),
    (("tennis", "rowing", "fencing", "judo"), "My sport is {}.", "Sport: {}", "Which sport do I do?"),
    (("April", "June", "October", "March"), "My birthday is in {}.", "Birthday: {}", "In which month is my birthday?"),
    (("Lisbon", "Vienna", "Dublin", "Oslo"), "I live in {} now.", "Lives in {}", "Where do I live now?"),
    (("tea", "cocoa", "coffee", "juice"), "I start the day with {}.", "First drink: {}", "What do I drink first?"),
    (("Nell", "Clara", "Ruth", "Wilma"), "My daughter is called {}.", "Daughter: {}", "What is my daughter's name?"),
    (("Volvo", "Fiat", "Skoda", "Mazda"), "I drive a {}.", "Car: {}", "Which car do I drive?"),
    (("pasta", "sushi", "curry", "pizza"), "The food I like best is {}.", "Food: {}", "Which food do I like best?"),
    (("Danish", "Greek", "Polish", "Turkish"), "I am learning {}.", "Learns {}", "Which language am I learning?"),
    (("Rex", "Bruno", "Luna", "Max"), "My uncle's dog is {}.", "Uncle's dog: {}", "What is my uncle's dog called?"),
    (("tulips", "roses", "lilies", "daisies"), "I grow {}.", "Grows {}", "Which flowers do I grow?"),
    (("Emma", "Dracula", "Ulysses", "Ivanhoe"), "I am reading {}.", "Reads {}", "Which book am I reading?"),
    (("chess", "poker", "bridge", "darts"), "On Fridays I play {}.", "Fridays: {}", "What do I play on Fridays?"),
    (("Kenya", "Peru", "Japan", "Cuba"), "My next trip is to {}.", "Trip: {}", "Where does my next trip go?"),
    (("Anders", "Boris", "Carlo", "David"), "My boss is {}.", "Boss: {}", "Who is my boss?"),
    (("Monday", "Tuesday", "Thursday", "Sunday"), "I am off on {}.", "Off on {}", "On which day am I off?"),
    (("Mozart", "Bach", "Chopin", "Verdi"), "I love the music of {}.", "Loves {}", "Whose music do I love?"),
    (("lemon", "cherry", "apple", "plum"), "I bake a {} cake.", "Bakes {} cake", "Which cake do I bake?"),
)  # fmt: skip
COUNT = len(_FACTS)
SETS = 4
#: How many facts a question lags behind: long enough for many to be paged out, and to stand in core memory alone.
_LAG = 12


@dataclass(frozen=True, slots=True)
class Answered:
    """One question under one policy. `told` and `asked` are turns."""

    policy: str
    set: int
    question: str
    expected: str
    answer: str
    told: int
    asked: int

    @property
    def right(self) -> bool:
        """Whether the word is in the answer, as a word."""
        return re.search(rf"\b{self.expected}s?\b", self.answer, re.IGNORECASE) is not None

    def as_dict(self) -> dict[str, Any]:
        """The question, JSON-ready."""
        return {**asdict(self), "right": self.right}


def schedule(count: int = COUNT) -> list[tuple[str, int]]:
    """In which order the first `count` facts are told and asked about: each question some facts behind its own."""
    order = [("tell", number) for number in range(min(_LAG, count))]
    for number in range(_LAG, count):
        order += [("tell", number), ("ask", number - _LAG)]
    return order + [("ask", number) for number in range(max(0, count - _LAG), count)]


class Quiz:
    """One policy's agent, told and asked."""

    def __init__(self, side: Side, which: int) -> None:
        self._side, self._which = side, which
        self._told: dict[int, int] = {}

    def take(self, turn: int, what: str, number: int) -> Answered | None:
        """One turn: a fact, or a question."""
        words, said, saved, question = _FACTS[number]
        word = words[self._which]
        if what == "tell":
            self._told[number] = turn
            self._side.say(said.format(word), turn, [_saved(saved.format(word)), _noted(number)])
            return None
        answer = self._side.say(question, turn, [])
        return Answered(self._side.policy, self._which, question, word, answer, self._told[number], turn)


def _saved(text: str) -> str:
    return write_call("Save it.", "core_memory_append", {"block": "human", "content": text})


#: In turn: a small model that has given one answer ten times gives it an eleventh time, whatever it is asked.
_THANKS = (
    "Thank you for telling me!",
    "Good to know.",
    "Got it, I have written it down.",
    "How nice! I keep that in mind.",
    "Noted.",
    "That is good to hear, thanks.",
    "I see! I saved it.",
)


def _noted(number: int) -> str:
    return write_call("Answer.", "send_message", {"message": _THANKS[number % len(_THANKS)]})


def run_answers(
    contest: Contest, which: int = 0, count: int = COUNT, on_answer: Callable[[Answered], None] | None = None
) -> list[Answered]:
    """The questions of one set of facts (0 to 3), under each policy of a fresh contest in turn."""
    quizzes = [Quiz(side, which) for side in contest.sides]
    found = []
    for turn, (what, number) in enumerate(schedule(count), 1):
        for quiz in quizzes:
            answered = quiz.take(turn, what, number)
            if answered is not None:
                found.append(answered)
                if on_answer is not None:
                    on_answer(answered)
    return found


def scores(found: Sequence[Answered]) -> dict[str, Any]:
    """How many each policy had right, and the questions on which they differ; JSON-ready."""
    policies = list(dict.fromkeys(one.policy for one in found))
    cases: dict[tuple[int, str], dict[str, bool]] = {}
    for one in found:
        cases.setdefault((one.set, one.question), {})[one.policy] = one.right
    return {
        "questions": len(cases),
        "right": {policy: sum(one.right for one in found if one.policy == policy) for policy in policies},
        "differ": [
            {"set": which, "question": question, **right}
            for (which, question), right in cases.items()
            if len(set(right.values())) > 1
        ],
    }
