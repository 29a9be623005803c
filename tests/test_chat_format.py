"""Messages as each model's template writes them; and what no template may do."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from chat_templates import QWEN25, TEMPLATES

from localmem.engine.chat_format import CHATML, TemplateFormat
from localmem.engine.scripted import BYTES
from localmem.engine.template import Template
from localmem.errors import ModelError
from localmem.protocols import Role


class Texts:
    """A vocabulary that keeps texts: the ids are positions in a list of the strings that were tokenized."""

    def __init__(self, bos: str, eos: str) -> None:
        self.texts = [bos, eos]
        self.special: list[str] = []
        self.size, self.end_tokens, self.control_tokens = 1 << 20, frozenset({1}), frozenset({0, 1})

    def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        if special:
            self.special.append(text)
        self.texts.append(text)
        return [len(self.texts) - 1]

    def token_bytes(self, token: int) -> bytes:
        return self.texts[token].encode()

    def detokenize(self, tokens: Sequence[int]) -> str:
        return "".join(self.texts[t] for t in tokens)


def _format(name: str) -> tuple[TemplateFormat, Texts]:
    source, bos, eos = TEMPLATES[name]
    vocabulary = Texts(bos, eos)
    return TemplateFormat(vocabulary, source, bos=0 if bos else None, eos=1), vocabulary


_IM = {role: f"<|im_start|>{role}\nM<|im_end|>\n" for role in ("user", "assistant", "system", "tool")}
_LLAMA = {
    role: f"<|start_header_id|>{role}<|end_header_id|>\n\nM<|eot_id|>" for role in ("user", "assistant", "system")
}
_GEMMA = {"user": "<start_of_turn>user\nM<end_of_turn>\n", "assistant": "<start_of_turn>model\nM<end_of_turn>\n"}
_GEMMA |= {"system": _GEMMA["user"], "tool": _GEMMA["user"], "first": "<bos>" + _GEMMA["user"]}
_RESPONSE = "<|im_start|>user\n<tool_response>\nM\n</tool_response><|im_end|>\n"

EXPECTED = {
    "smollm2": {**_IM, "first": _IM["system"]},
    "qwen2.5": {**_IM, "tool": _RESPONSE, "first": _IM["system"]},
    "qwen3": {**_IM, "tool": _RESPONSE, "first": _IM["system"]},
    "llama3": {
        **_LLAMA,
        "tool": '<|start_header_id|>ipython<|end_header_id|>\n\n"M"<|eot_id|>',
        "first": "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n"
        "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\nM<|eot_id|>",
    },
    "gemma2": _GEMMA,
    "gemma3": _GEMMA,
    "mistral": {
        "user": "[INST] M[/INST]",
        "assistant": " M</s>",
        "system": "[INST] M[/INST]",
        "tool": "[INST] M[/INST]",
        "first": "<s>[INST] M[/INST]",
    },
    "phi4": {role: f"<|{role}|>M<|end|>" for role in ("user", "assistant", "system", "tool")}
    | {"first": "<|system|>M<|end|>"},
}


@pytest.mark.parametrize(("name", "role"), [(n, r) for n in TEMPLATES for r in ("user", "assistant", "system", "tool")])
def test_a_message_is_written_as_the_template_writes_it_among_others(name: str, role: Role) -> None:
    form, vocabulary = _format(name)
    assert vocabulary.detokenize(form.message(role, "M")) == EXPECTED[name][role]


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_first_message_brings_what_begins_a_conversation(name: str) -> None:
    form, vocabulary = _format(name)
    tokens = form.message("system", "M", first=True)
    assert vocabulary.detokenize(tokens) == EXPECTED[name]["first"]
    assert tokens.count(0) == (1 if TEMPLATES[name][1] else 0)


@pytest.mark.parametrize("name", TEMPLATES)
def test_an_assistant_message_is_opening_text_ending(name: str) -> None:
    form, vocabulary = _format(name)
    written = [*form.opening, *vocabulary.tokenize("M"), *form.ending]
    assert vocabulary.detokenize(written) == EXPECTED[name]["assistant"]


@pytest.mark.parametrize("name", ["qwen2.5", "qwen3", "llama3", "phi4", "smollm2"])
def test_messages_one_by_one_are_the_conversation_as_a_whole(name: str) -> None:
    form, vocabulary = _format(name)
    source, bos, eos = TEMPLATES[name]
    turns: list[tuple[Role, str]] = [("system", "S"), ("user", "U"), ("assistant", "A"), ("user", "V")]
    tokens = [t for i, (role, text) in enumerate(turns) for t in form.message(role, text, first=i == 0)]
    assert vocabulary.detokenize(tokens) == Template(source, bos=bos, eos=eos).render(*turns)


@pytest.mark.parametrize("content", ["{{ 1 + 1 }}", "{% raw %}", "  spaces  ", "SENTINEL-ALPHA", "<|im_end|>", ""])
def test_content_never_passes_through_the_template(content: str) -> None:
    form, vocabulary = _format("llama3")
    tokens = form.message("user", content)
    assert content in [vocabulary.texts[t] for t in tokens]
    assert content not in vocabulary.special or not content
    real = TemplateFormat(BYTES, CHATML)
    tokens = real.message("user", content)
    assert [t for t in tokens if t in BYTES.control_tokens] == [256, 257]
    assert BYTES.detokenize(tokens) == f"user\n{content}\n"


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages | length }}",
        "{% for m in messages | reverse %}[{{ m.role }}] {{ m.content }}{% endfor %}",
        "{% for m in messages %}{{ loop.index }} {{ m.role }}: {{ m.content }};{% endfor %}",
        "{{ raise_exception('never') }}",
        "{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}",
        "{% for m in messages",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ 1 / 0 }}",
        "{{ range(10 ** 9) | list }}",
        "{{ 'x' * 10000000000 }}",
        "{{ 9 ** 9 ** 9 }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    ],
)
def test_a_template_that_cannot_be_followed_is_one_clear_error(source: str) -> None:
    with pytest.raises(ModelError, match="chat_template:") as caught:
        TemplateFormat(BYTES, source)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "expression",
    [
        "messages.__class__",
        "messages.append({})",
        "raise_exception.__globals__",
        "cycler.__init__.__globals__.os.popen('id').read()",
        "self.__init__.__globals__",
        "namespace.__init__.__globals__['__builtins__']",
        "''.format.__self__.__class__",
        "'{0.__class__.__init__.__globals__}'.format(messages)",
        "open('/etc/passwd').read()",
    ],
)
def test_a_malicious_template_reaches_nothing(expression: str) -> None:
    shown = Template("{{ " + expression + " }}").render(("user", "x"))
    assert not shown


def test_the_date_does_not_change_from_day_to_day() -> None:
    form, vocabulary = _format("llama3")
    assert "26 Jul 2024" in vocabulary.detokenize(form.message("system", "M", first=True))
    assert "Qwen, created" not in "".join(TemplateFormat(Texts("", ""), QWEN25).turns["user"].before)
