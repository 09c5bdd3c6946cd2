"""A vocabulary of one's own: GPT-2's kind, the same for the same stories."""

import json
import random
import subprocess
import sys

import pytest

from storylm.config.errors import DataError, UsageError
from storylm.text.bytelevel import ALPHABET
from storylm.text.training import train_bpe

from .conftest import STORIES


def spec(tokenizer) -> dict:
    return json.loads(tokenizer._tokenizer.to_str())


def test_ids_of_the_end_token_the_bytes_and_merges() -> None:
    tokenizer = train_bpe(STORIES, 300)
    assert tokenizer.vocab_size == 300
    assert tokenizer.start_id == tokenizer.end_id == 0
    assert tokenizer.special_ids == {0}
    assert tokenizer.lossless
    vocabulary = spec(tokenizer)["model"]["vocab"]
    assert vocabulary["<|endoftext|>"] == 0
    assert {vocabulary[character] for character in ALPHABET} == set(range(1, 257))
    assert all(isinstance(id, int) for id in vocabulary.values())
    assert len(spec(tokenizer)["model"]["merges"]) == 300 - 257


def test_its_surroundings_are_gpt2s(tokenizer_of) -> None:
    """So that other tools, llama.cpp among them, know it for that kind."""
    own, gpt2 = spec(train_bpe(STORIES, 300)), spec(tokenizer_of("gpt2"))
    for part in ("normalizer", "pre_tokenizer", "post_processor", "decoder"):
        assert own[part] == gpt2[part], part
    assert own["pre_tokenizer"] == {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": True,
    }


def test_the_alphabet_is_gpt2s(tokenizer_of) -> None:
    """`ALPHABET[byte]` stands for that byte in GPT-2's own vocabulary: its ids give the bytes back."""
    gpt2 = tokenizer_of("gpt2")
    vocabulary = spec(gpt2)["model"]["vocab"]
    assert set(ALPHABET) <= vocabulary.keys()
    assert gpt2.encode("\n") == [vocabulary[ALPHABET[10]]]
    assert gpt2.decode([vocabulary[ALPHABET[byte]] for byte in "é🙂".encode()]) == "é🙂"


def test_the_same_stories_in_any_order_give_the_same_tokenizer() -> None:
    shuffled = random.Random(0).sample(STORIES, len(STORIES))
    code = (
        "import sys, json; from storylm.text.training import train_bpe;"
        "print(train_bpe(json.load(sys.stdin), 350).fingerprint)"
    )
    other_process = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(STORIES), capture_output=True, text=True, check=True
    )
    expected = train_bpe(STORIES, 350).fingerprint
    assert train_bpe(iter(shuffled), 350).fingerprint == expected
    assert other_process.stdout.strip() == expected


def test_merges_are_the_most_frequent_pairs_within_words() -> None:
    tokenizer = train_bpe(["xyxyxy zz", "xy.zz"] * 3, 260)
    assert [tokenizer.decode([id]) for id in (257, 258)] == ["xy", "zz"]
    text = "the end " * 50
    learned = {
        tokenizer.decode([id]) for tokenizer in [train_bpe([text], 400)] for id in range(257, tokenizer.vocab_size)
    }
    assert " the" in learned
    assert not any(" " in token[1:] for token in learned)  # GPT-2's split: no merge across words


def test_a_vocabulary_of_the_bytes_alone_and_smaller_ones() -> None:
    assert train_bpe(STORIES, 257).encode("a\n") == [ord("a") - 33 + 1, ALPHABET_ORDER.index(ALPHABET[10]) + 1]
    with pytest.raises(UsageError, match="257"):
        train_bpe(STORIES, 256)


ALPHABET_ORDER = sorted(ALPHABET)


def test_too_little_text_gives_a_smaller_vocabulary() -> None:
    tokenizer = train_bpe(["abab once"], 5000)
    assert tokenizer.vocab_size == 258  # "ab" alone occurs twice
    assert tokenizer.decode(tokenizer.encode("abc é")) == "abc é"


@pytest.mark.parametrize("stories", [[], ["", ""]])
def test_no_stories(stories) -> None:
    with pytest.raises(DataError, match="no stories"):
        train_bpe(stories, 300)


def test_literal_end_tokens_in_stories_are_learned_as_text() -> None:
    tokenizer = train_bpe(["a<|endoftext|>b"] * 20, 300)
    ids = tokenizer.encode("<|endoftext|>")
    assert 0 not in ids
    assert tokenizer.decode(ids) == "<|endoftext|>"


def test_progress_is_shown_only_when_asked_for(capfd) -> None:
    train_bpe(STORIES, 300)
    assert capfd.readouterr() == ("", "")


def test_real_stories(train_stories, valid_stories) -> None:
    tokenizer = train_bpe(train_stories[:1500], 4096)
    assert tokenizer.vocab_size == 4096
    batch = tokenizer.encode_batch(valid_stories)
    assert [tokenizer.decode(ids) for ids in batch] == valid_stories
    bytes_per_token = sum(len(story.encode()) for story in valid_stories) / sum(map(len, batch))
    assert 3.7 < bytes_per_token < 4.2
