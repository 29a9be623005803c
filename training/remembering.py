"""Turns about core memory: facts told, corrected, taken back and asked for; alone, in passing, or several at once."""

from __future__ import annotations

from collections.abc import Sequence

from training.scenario import Call, Expected, Turn
from training.texts import fill
from training.world import Fact, World

# One thought for each kind of turn. Its first word is the decision, and so one word for all kinds that are decided the
# same way: split among several, the likeliest decision may lose.
_SAVE = "New fact; save it."
_SAVE_SEVERAL = "New facts; save a line each."
_ALL_SAVED = (
    "Thank you, I have saved all of that.",
    "Noted, all of it.",
    "Got it! I will remember these.",
    "I have written all of that down.",
    "All saved.",
)
_SAVED = "Saved; answer."
_CHANGE = "Changed; correct the line."
_CHANGED = "Corrected; answer."
_FORGET = "Forget it; remove the line."
_PASSING = "New fact in passing; save it first."
_KNOWN = "Known already; nothing to save."


def say(thought: str, message: str) -> Call:
    return Call(thought, "send_message", {"message": message})


def append(thought: str, content: str) -> Call:
    return Call(thought, "core_memory_append", {"block": "human", "content": content})


def replace(thought: str, old: str, new: str) -> Call:
    arguments = {"block": "human", "old_content": old, "new_content": new}
    return Call(thought, "core_memory_replace", arguments)


def told(world: World) -> Turn | None:
    """A fact: saved."""
    return _told(world, world.new_fact())


def introduced(world: World) -> Turn | None:
    """The name, and nothing else, where nothing is known yet: how most people begin."""
    item = next((item for item in world.texts["facts"] if item["name"] == "name"), None)
    if item is None or world.facts or id(item) in world.used:
        return None
    world.used.add(id(item))
    return _told(world, Fact(item, world.texts.draw(item, world.rng)))


def _told(world: World, fact: Fact | None) -> Turn | None:
    if fact is None:
        return None
    text = world.pick(fact.item["tell"], fact.values)
    calls = (
        append(_SAVE, fact.line),
        say(_SAVED, world.pick(fact.item["ack"], fact.values)),
    )
    world.facts.append(fact)
    expected = Expected("fact", ("core_memory_append",), fact=(fact.values["v"],), line=fact.line)
    return Turn(text, calls, expected, gist=f"The user told: {fact.line}")


def told_several(world: World) -> Turn | None:
    """Two or three facts in one message: one call, a line each."""
    facts = [fact for _ in range(world.rng.choice((2, 2, 3))) if (fact := world.new_fact()) is not None]
    if len(facts) < 2:
        return None
    glue = world.rng.choice((" ", " ", " And ", " Also: ", "\n"))
    said = [world.pick(sorted(fact.item["tell"], key=len)[:6], fact.values) for fact in facts]
    text = said[0] + "".join(_joined(glue, part) for part in said[1:])
    lines = [fact.line for fact in facts]
    calls = _saved_together(world, lines)
    world.facts += facts
    several = tuple(("core_memory_append",) * count for count in range(2, len(facts) + 1))
    expected = Expected(
        "several facts",
        ("core_memory_append",),
        also=several,
        fact=tuple(fact.values["v"] for fact in facts),
        line="\n".join(lines),
    )
    return Turn(text, calls, expected, gist="The user told: " + "; ".join(lines))


def _saved_together(world: World, lines: Sequence[str]) -> tuple[Call, Call]:
    return append(_SAVE_SEVERAL, "\n".join(lines)), say(_SAVED, world.pick(_ALL_SAVED))


def _joined(glue: str, part: str) -> str:
    return (
        glue + part if glue.strip() in ("", "Also:") or not part[1:2].islower() else glue + part[0].lower() + part[1:]
    )


def told_in_one_breath(world: World) -> Turn | None:
    """Two or three facts in one sentence: one call, a line each."""
    item = world.item("compounds")
    if item is None:
        return None
    values = world.texts.draw(item, world.rng)
    lines = [fill(line, values) for line in item["lines"]]
    calls = _saved_together(world, lines)
    world.facts += [_unasked(line) for line in lines]
    several = (("core_memory_append",) * 2, ("core_memory_append",) * 3)
    expected = Expected(
        "several facts", ("core_memory_append",), also=several, fact=tuple(values.values()), line="\n".join(lines)
    )
    return Turn(world.pick(item["say"], values), calls, expected, gist="The user told: " + "; ".join(lines))


def asked_all(world: World) -> Turn | None:
    """What is known of the user: all of core memory."""
    if not world.facts:
        return None
    lines = [fact.line for fact in world.facts]
    reply = world.pick(
        ("I know this: {all}.", "This is what I remember: {all}.", "So far: {all}."), {"all": "; ".join(lines)}
    )
    values = tuple(fact.values.get("v", fact.line) for fact in world.facts[:3])
    expected = Expected("all that is known", answer=values)
    return Turn(world.pick(world.texts.phrases["about_me"]), (say("All of core memory.", reply),), expected)


def _unasked(line: str) -> Fact:
    """A line of core memory for which there are no texts to ask or change it."""
    return Fact({"name": line, "line": "{line}", "tell": [], "ask": []}, {"line": line})


def told_again(world: World) -> Turn | None:
    """What core memory says already: not saved twice."""
    facts = [fact for fact in world.facts if fact.item["tell"]]
    if not facts:
        return None
    fact = world.rng.choice(facts)
    text = world.pick(sorted(fact.item["tell"], key=len)[:4], fact.values)
    reply = world.pick(("Yes, I remember: {line}.", "I know, that is in my memory: {line}."), {"line": fact.line})
    return Turn(text, (say(_KNOWN, reply),), Expected("known fact"), gist="")


def changed(world: World) -> Turn | None:
    """A correction: the line as it stands is replaced."""
    facts = [fact for fact in world.facts if fact.item.get("change")]
    if not facts:
        return None
    fact = world.rng.choice(facts)
    old, before = fact.line, fact.values["v"]
    kept = {slot: value for slot, value in fact.values.items() if slot != "v"}
    new = Fact(fact.item, world.texts.draw(fact.item, world.rng, {**kept, "old": before}))
    values = {**new.values, "old": before}
    if new.values["v"] == before or new.line == old:
        return None
    text = world.pick(fact.item["change"], values)
    calls = (
        replace(_CHANGE, old, new.line),
        say(_CHANGED, world.pick(fact.item["changed"], values)),
    )
    world.facts[world.facts.index(fact)] = new
    expected = Expected("correction", ("core_memory_replace",), fact=(new.values["v"],), line=new.line, old=old)
    return Turn(text, calls, expected, gist=f"The user corrected {old!r} to {new.line!r}")


def forgotten(world: World) -> Turn | None:
    """A line is taken back."""
    facts = [fact for fact in world.facts if fact.item.get("forget")]
    if not facts:
        return None
    fact = world.rng.choice(facts)
    text = world.pick(fact.item["forget"], fact.values)
    reply = world.pick(("Done, I have removed it.", "I have forgotten it.", "It is gone from my memory."))
    calls = (replace(_FORGET, fact.line, ""), say("Removed; answer.", reply))
    world.facts.remove(fact)
    return Turn(text, calls, Expected("forget", ("core_memory_replace",), old=fact.line), gist="")


def asked(world: World) -> Turn | None:
    """A question that core memory answers: no search."""
    facts = [fact for fact in world.facts if fact.item["ask"]]
    if not facts:
        return None
    fact = world.rng.choice(facts)
    text = world.pick(fact.item["ask"], fact.values)
    reply = world.pick(fact.item["answer"], fact.values)
    expected = Expected("core question", answer=(fact.values["v"],))
    return Turn(text, (say(f"Core memory: {fact.values['v']}", reply),), expected)


def in_passing(world: World) -> Turn | None:
    """A fact inside a request: saved, then the request is answered."""
    item = world.item("passing")
    if item is None:
        return None
    values = world.texts.draw(item, world.rng)
    line = fill(item["line"], values)
    world.facts.append(_unasked(line))
    calls = (append(_PASSING, line), say(_SAVED, world.pick(item["reply"], values)))
    expected = Expected(
        "fact in passing", ("core_memory_append",), fact=tuple(_in_line(item["line"], values)), line=line
    )
    return Turn(world.pick(item["say"], values), calls, expected, gist=f"The user told: {line}")


def _in_line(template: str, values: dict[str, str]) -> Sequence[str]:
    return [value for slot, value in values.items() if "{" + slot + "}" in template]


def changed_and_asked(world: World) -> Turn | None:
    """A correction and a question that core memory answers, in one message."""
    if len(world.facts) < 2:
        return None
    correction = changed(world)
    if correction is None:
        return None
    changed_line = correction.expected.line
    others = [fact for fact in world.facts if fact.line != changed_line and fact.item["ask"]]
    if not others:
        return None
    fact = world.rng.choice(others)
    question, answer = world.pick(fact.item["ask"], fact.values), world.pick(fact.item["answer"], fact.values)
    text = f"{correction.text} {question}"
    reply = f"{correction.calls[-1].arguments['message']} {answer}"
    calls = (correction.calls[0], say(f"Corrected; core memory: {fact.values['v']}", reply))
    expected = Expected(
        "correction and question",
        ("core_memory_replace",),
        fact=correction.expected.fact,
        line=changed_line,
        old=correction.expected.old,
        answer=(fact.values["v"],),
    )
    return Turn(text, calls, expected, gist=correction.gist)
