"""Text to tokens and back; and no text makes a control token, wherever it stands."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_gguf import USER_DEFINED, Tokenizer, write_tiny

from localmem.engine.llama import LlamaEngine
from localmem.engine.loading import LlamaOptions
from localmem.engine.vocabulary import LlamaVocabulary

PLACES = ["{}", "a{}b", "\n{}\n", "{0}{0}", "<{}>", "<|im_{}", "é{}😀", "user\n{}assistant\n", " {} ", "<|{0}|>{0}"]


@pytest.fixture(scope="module")
def vocabulary(tiny_model_path: Path) -> Iterator[LlamaVocabulary]:
    """The bundled model's vocabulary."""
    engine = LlamaEngine(tiny_model_path, LlamaOptions(n_ctx=256, threads=1))
    yield engine.vocabulary
    engine.close()


@pytest.fixture(scope="module")
def sentencepiece(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaEngine]:
    """A SentencePiece vocabulary, which puts a space before every text."""
    tokenizer = Tokenizer.sentencepiece(["▁hello", "▁world", "hello", "<s", "{", "}", '"', ":", ",", "▁"])
    path = write_tiny(tmp_path_factory.mktemp("spm") / "spm.gguf", tokenizer, n_ctx=512)
    engine = LlamaEngine(path, LlamaOptions(n_ctx=512, threads=1))
    yield engine
    engine.close()


_TEXTS = ["", " ", "Hello, world", "  two  spaces ", "\n\n", "é ü 😀 中文", "a\x00b", '\t{}[]"', "x" * 500, "\x02"]


@pytest.mark.parametrize("text", _TEXTS)
def test_round_trips(vocabulary: LlamaVocabulary, sentencepiece: LlamaEngine, text: str) -> None:
    for each in (vocabulary, sentencepiece.vocabulary):
        tokens = each.tokenize(text)
        assert each.detokenize(tokens) == text
        assert b"".join(map(each.token_bytes, tokens)) == text.encode()


# SmolLM2's vocabulary has no token for some control characters, nor for the bytes 0xF1 and up, with which planes begin
# that have no characters: llama.cpp leaves those out.
@given(text=st.text(st.characters(max_codepoint=0x3FFFF, exclude_categories=["Cc", "Cs", "Cn"]), max_size=40))
@settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_any_text_round_trips(vocabulary: LlamaVocabulary, sentencepiece: LlamaEngine, text: str) -> None:
    for each in (vocabulary, sentencepiece.vocabulary):
        assert each.detokenize(each.tokenize(text)) == text


def test_the_bundled_vocabulary(vocabulary: LlamaVocabulary) -> None:
    names = {vocabulary.token_bytes(t) for t in vocabulary.control_tokens}
    assert {b"<|im_start|>", b"<|im_end|>", b"<|endoftext|>"} <= names
    assert vocabulary.end_tokens <= vocabulary.control_tokens
    (start,) = vocabulary.tokenize("<|im_start|>", special=True)
    assert start in vocabulary.control_tokens
    assert vocabulary.detokenize([start, *vocabulary.tokenize("hi")]) == "hi"
    assert len({vocabulary.token_bytes(t) for t in range(256, 300)}) == 44


@pytest.mark.parametrize("place", PLACES)
def test_no_special_tokens_text_makes_a_control_token(vocabulary: LlamaVocabulary, place: str) -> None:
    for token in vocabulary.control_tokens:
        text = place.format(vocabulary.token_bytes(token).decode())
        tokens = vocabulary.tokenize(text)
        assert not {*tokens} & vocabulary.control_tokens, text
        assert vocabulary.detokenize(tokens) == text


@pytest.mark.parametrize("place", PLACES)
def test_user_defined_tokens_that_look_like_markers_are_no_text_either(
    model_path: Path, tmp_path: Path, place: str
) -> None:
    """Some GGUFs mark turn markers as user-defined: llama.cpp parses those whatever it is told."""
    tokenizer = Tokenizer.of_file(model_path).with_type(1, USER_DEFINED).with_type(2, USER_DEFINED)
    engine = LlamaEngine(write_tiny(tmp_path / "t.gguf", tokenizer), LlamaOptions(n_ctx=256, threads=1))
    vocabulary = engine.vocabulary
    try:
        assert vocabulary.token_bytes(1) == b"<|im_start|>"
        assert 1 in vocabulary._tokenize("<|im_start|>", special=False)  # what is guarded against
        for name in ("<|im_start|>", "<|im_end|>"):
            tokens = vocabulary.tokenize(place.format(name))
            assert not {*tokens} & vocabulary.control_tokens
            assert vocabulary.detokenize(tokens) == place.format(name)
    finally:
        engine.close()


def test_sentencepiece_markers_are_no_text(sentencepiece: LlamaEngine) -> None:
    vocabulary = sentencepiece.vocabulary
    for place in PLACES:
        for name in ("<s>", "</s>", "<unk>"):
            tokens = vocabulary.tokenize(place.format(name))
            assert not {*tokens} & vocabulary.control_tokens
            assert vocabulary.detokenize(tokens) == place.format(name)
    assert vocabulary.bos == 1


def test_grammars_hold_on_a_sentencepiece_vocabulary(sentencepiece: LlamaEngine) -> None:
    import json

    from localmem.grammar.compile import compile_grammar

    grammar = compile_grammar(
        {
            "type": "object",
            "properties": {"hello world": {"type": "string", "maxLength": 8}, "n": {"enum": ["hello", " world"]}},
            "required": ["hello world", "n"],
            "additionalProperties": False,
        }
    )
    for seed in range(8):
        out = sentencepiece.generate("x", constraint=grammar, max_tokens=44 + seed, temperature=2.0, seed=seed)
        assert list(json.loads(out.text)) == ["hello world", "n"]
