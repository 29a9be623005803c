"""The script of the KV benchmark: what is said, edited, searched and paged out in 50 turns, the same for every policy.

Texts only, and where in the conversation each stands. Knows no engine and no agent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from localmem.events import write_call

TURNS = 50
#: Turns, counted from 1, of the whole script: those that edit core memory, search, are followed by a page-out, and by
#: a warning of memory pressure. The warnings come before a policy's own would: that depends on the size of its prefix.
EDITS = (2, 5, 8, 11, 13, 15, 18, 24, 27, 34)
SEARCHES = (22, 31, 46)
PAGE_OUTS = (19, 28, 39)
WARNINGS = (14, 24, 33, 44)

Call = tuple[str, str, Mapping[str, Any]]  # thought, function, arguments


@dataclass(frozen=True, slots=True)
class Turn:
    """What the user says, and the calls that the model answers with. `summary` if a page-out follows the turn."""

    number: int
    user: str
    calls: tuple[Call, ...]
    edits: bool = False
    searches: bool = False
    warned: bool = False
    summary: str | None = None

    @property
    def answers(self) -> list[str]:
        """The calls as the model writes them."""
        return [write_call(*call) for call in self.calls]


class Clock:
    """A clock that moves a minute and a half a turn, and stands still within one: no policy gets other times."""

    def __init__(self) -> None:
        self.turn = 0

    def __call__(self) -> datetime:
        return datetime(2026, 3, 2, 8, 0, tzinfo=UTC) + timedelta(seconds=90 * self.turn)


def script(turns: int = TURNS) -> list[Turn]:
    """A conversation of so many turns, 1 to 50. A shorter one has what happens in the whole one at the same pace."""
    edits, searches = _places(EDITS, turns), _places(SEARCHES, turns)
    page_outs, warnings = _places(PAGE_OUTS, turns), _places(WARNINGS, turns)
    searches = {turn for turn in searches - edits if turn > min(page_outs)}  # before, all there is is in main context
    plain, changes, questions, summaries = iter(_PLAIN), iter(_EDITS), iter(_SEARCHES), iter(_SUMMARIES)
    made = []
    for number in range(1, turns + 1):
        user, reply, *call = next(changes if number in edits else questions if number in searches else plain)
        calls = [*call, ("Answer.", "send_message", {"message": reply})]
        made.append(
            Turn(
                number,
                user,
                tuple(calls),
                edits=number in edits,
                searches=number in searches,
                warned=number in warnings,
                summary=next(summaries) if number in page_outs else None,
            )
        )
    return made


def _places(whole: Sequence[int], turns: int) -> set[int]:
    """Where in a script of `turns` turns something happens that has its places in the whole one."""
    count = max(1, len(whole) * turns // TURNS)
    every = [max(1, round(place * turns / TURNS)) for place in whole]
    return set(every[:: max(1, len(every) // count)][:count])


def merged(through: int) -> str:
    """The call that merges summaries, once there are three."""
    return page_out(through, "Ada's move to Lisbon, her cello lessons, the aquarium, and the plans for the concert.")


def page_out(through: int, summary: str) -> str:
    """The call that pages out; a small window leaves it no room for a thought."""
    return write_call("", "page_out", {"through": through, "summary": summary})


def _append(content: str) -> Call:
    return ("A lasting fact; save it.", "core_memory_append", {"block": "human", "content": content})


def _replace(old: str, new: str) -> Call:
    arguments = {"block": "human", "old_content": old, "new_content": new}
    return ("That has changed; correct it.", "core_memory_replace", arguments)


_EDITS: tuple[tuple[Any, ...], ...] = (
    ("Hello! My name is Ada, and I have just moved to Lisbon for my new job at the aquarium.",
     "Nice to meet you, Ada. How do you like Lisbon and the aquarium so far?", _append("Name: Ada; lives in Lisbon.")),
    ("I should tell you that I play the cello, and that my teacher is called Rui.",
     "The cello is a fine instrument. What are you working on with Rui?", _append("Plays the cello; teacher: Rui.")),
    ("Please remember that I am allergic to hazelnuts, because I will ask you for recipes.",
     "I will keep hazelnuts out of everything that I suggest.", _append("Allergic to hazelnuts.")),
    ("My lessons are no longer with Rui. Since last week a woman named Teresa teaches me.",
     "Then Teresa is your teacher now. How was the first lesson with her?",
     _replace("Plays the cello; teacher: Rui.", "Plays the cello; teacher: Teresa.")),
    ("There will be a concert on the ninth of May, and I am to play the second suite.",
     "The ninth of May it is. That leaves you about two months for the suite.", _append("Concert on 9 May: suite 2.")),
    ("We found a flat in Graça with a small balcony, so I am moving there next Saturday.",
     "Congratulations! A balcony in Graça must have a lovely view of the river.",
     _replace("Name: Ada; lives in Lisbon.", "Name: Ada; lives in Graça, Lisbon.")),
    ("My brother Tom is going to visit me in April, and he does not eat any meat.",
     "Then we should plan a few dinners without meat for April.", _append("Brother Tom visits in April; no meat.")),
    ("The concert was moved to the sixteenth of May, because the hall is being painted.",
     "One more week to practise, then. I have the sixteenth of May now.",
     _replace("Concert on 9 May: suite 2.", "Concert on 16 May: suite 2.")),
    ("At work I am now responsible for the sea otters, and the old one is called Eusebio.",
     "What a wonderful task. Is Eusebio as calm as old otters are said to be?", _append("Cares for sea otters.")),
    ("Tom has changed his plans and comes in June instead, with his daughter Nell.",
     "June is warmer in any case, and Nell may like the otters.",
     _replace("Brother Tom visits in April; no meat.", "Brother Tom and Nell visit in June; no meat.")),
)  # fmt: skip

_SEARCHES: tuple[tuple[Any, ...], ...] = (
    ("What was it that I told you about the scales I practise in the morning?",
     "You practise them slowly, with a metronome, before breakfast.",
     ("Look it up.", "conversation_search", {"query": "metronome scales", "page": 1})),
    ("Do you still know which soup I cooked for the neighbours in our first week?",
     "It was the one with green cabbage and potatoes.",
     ("Look it up.", "conversation_search", {"query": "cabbage soup neighbours", "page": 1})),
    ("Which tram did we say was the best one for carrying a cello up the hill?",
     "Number 28 early in the morning, before the visitors come.",
     ("Look it up.", "conversation_search", {"query": "tram 28", "page": 1})),
)  # fmt: skip

_SUMMARIES = (
    "Ada moved to Lisbon for a job at the aquarium. She plays the cello and now learns with Teresa. No hazelnuts.",
    "She moves to a flat in Graça. The concert with the second suite was planned, and Tom will visit.",
    "The concert is on 16 May now. At work she cares for the sea otters, among them old Eusebio.",
)

_PLAIN: tuple[tuple[Any, ...], ...] = (
    ("Good morning! I am sitting in the kitchen with a coffee and have an hour before work.",
     "Good morning! An hour is enough for a quiet start. What would you like to talk about?"),
    ("In the morning I play my scales slowly with a metronome, but I get bored after ten minutes.",
     "Change the rhythm every few minutes: long notes first, then pairs, then triplets at the same speed."),
    ("Should I practise the difficult bars first, or play the whole piece through?",
     "Take the difficult bars first, while you are fresh, and play it through only at the end."),
    ("My left hand gets tired after half an hour. Is that something to worry about?",
     "Tired is normal, pain is not. Put the cello down for five minutes and shake your arms loose."),
    ("I cooked a soup with green cabbage and potatoes for the new neighbours yesterday evening.",
     "That sounds like caldo verde. I hope they liked it as much as you liked cooking it."),
    ("They did! The old man next door even brought me a bag of lemons from his garden.",
     "How kind of him. Lemons keep for weeks, and a lemon cake would be a nice answer."),
    ("Which tram should I take with the cello, if I have to go up the hill to the school?",
     "Take number 28 early in the morning. Later it is so full that no cello fits in."),
    ("It rained so hard today that the street in front of our house turned into a river.",
     "March can be like that here. I hope that you and the cello stayed dry."),
    ("At the aquarium we have had to clean the big tank, and it took us the whole day.",
     "A whole day under water sounds tiring. Do the sharks mind when somebody cleans around them?"),
    ("They only look at you and swim on. It is the little rays that come and play.",
     "I like that the smallest ones are the bravest. They must have got used to you."),
    ("Can you recommend a book about the sea that is not too scientific?",
     "Try The Sea Around Us by Rachel Carson. It is old, but it reads like a story."),
    ("Thank you, I have ordered it. It should arrive by the end of the week.",
     "Then you have something to read on Sunday. Tell me how you find the first chapter."),
    ("My bow needs new hair. How often does one have that done?",
     "Once a year if you play every day. If it no longer grips the string, it is time."),
    ("The man in the shop asked for eighty euros. Is that a fair price?",
     "It is a little more than usual, but fair if he does it within a day or two."),
    ("I slept badly, because somebody in the house had a party until three in the morning.",
     "That is hard before a working day. A short walk at noon may help more than coffee."),
    ("Teresa says that my sound is too thin. What could I try at home?",
     "Play long open strings close to the bridge, with a slow bow and the weight of the arm."),
    ("That works quite well! The neighbour knocked at the wall, but only once.",
     "Then it was certainly louder. Perhaps the lemons and a cake will make peace."),
    ("I would like to bake something on Sunday. What is easy and needs no nuts?",
     "A lemon cake with yoghurt. You need one bowl, a spoon and forty minutes in the oven."),
    ("How much yoghurt goes into it? I have one small cup here.",
     "One small cup is just right. Use the empty cup to measure the sugar and the flour."),
    ("The cake turned out well, and the neighbour has forgiven me for the long notes.",
     "I am glad to hear it. So music and lemons go together after all."),
    ("Which day is best for buying fish on the market near the river?",
     "Tuesday to Saturday, early. On Monday there is little."),
    ("I have to give a short talk for school children on Thursday and I am nervous.",
     "Begin with a question that all of them can answer, and the rest comes by itself."),
    ("What could I ask children of eight who have never seen the sea?",
     "Ask them which animal they would like to be, and then show them that one."),
    ("They all wanted to be sharks, except for one girl who wanted to be a sponge.",
     "A sponge is a good choice: no enemies, and breakfast comes by itself."),
    ("I have started with the second suite. The prelude is sadder than I remembered.",
     "It is in D minor, and it takes its time. Do not hurry the pauses."),
    ("How slowly should I play the sarabande? Every recording is different.",
     "Slowly enough that you can still sing each phrase in one breath."),
    ("The boxes are packed. I did not know that I own so many cups.",
     "Nobody ever does until they move. Wrap them in towels."),
    ("The lift in the new house is too small for the cello and the stairs are narrow.",
     "Carry it upright on your back, and go sideways at the corners."),
    ("We have arrived! There is no light in the kitchen yet, but the view is wonderful.",
     "Welcome home! Candles will do for the first evening."),
    ("Where would you put the desk: by the window, or at the quiet wall?",
     "By the window, but sideways, so that the view does not distract you."),
    ("The new colleague wants to know how we train the animals to come to the scales.",
     "With small steps and a fish at each: first they touch the scales with one paw."),
    ("One of them refuses since Monday. What could be the reason?",
     "Perhaps the scales were moved, or smell of a cleaner."),
    ("You were right, somebody had cleaned them with vinegar. Now it works again.",
     "Vinegar would keep me away as well. Well found, and quickly."),
    ("What could we cook for my brother that feels like a feast and has no meat in it?",
     "A rice with mushrooms and saffron, baked in the oven."),
    ("Can it be prepared the day before? I have a rehearsal on that afternoon.",
     "Cook the mushrooms before and the rice on the day: that takes twenty minutes."),
    ("The rehearsal went well, only the hall is colder than my kitchen in winter.",
     "Take gloves along, and give the cello half an hour to get used to it."),
    ("Do I need to tune again when the hall warms up with all the people in it?",
     "Yes, once before you go on: the strings go flat as they get warmer."),
    ("I think I will go to bed early today. Thank you for all the good advice.",
     "Sleep well, Ada. The otters will be waiting for you."),
)  # fmt: skip
