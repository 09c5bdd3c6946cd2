"""llama2.c's tokenizer gives the ids of the SentencePiece package itself."""

import io
import random
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from storylm.config.errors import DataError
from storylm.text.sentencepiece import sentencepiece_bpe
from storylm.text.tokenizer import Tokenizer

sentencepiece = pytest.importorskip("sentencepiece")

# Letters of English make merges, spaces and line ends are where normalization differs.
TEXT = st.text(st.sampled_from("the and  \n\t.Once▁é🙂<s>/0x") | st.characters(exclude_categories=["Cs"]), max_size=40)


@pytest.fixture(scope="module")
def path(shared) -> Path:
    return shared / "reference" / "stories260K" / "tok512.model"


@pytest.fixture(scope="module")
def theirs(path):
    return sentencepiece.SentencePieceProcessor(model_file=str(path))


def test_ids_are_sentencepieces_own_on_real_stories(path, theirs, valid_stories) -> None:
    tokenizer = Tokenizer.load(path)
    stories = valid_stories[::2]
    assert [tokenizer.encode(story) for story in stories] == theirs.encode(stories)
    assert [ids.tolist() for ids in tokenizer.encode_batch(stories)] == theirs.encode(stories)


@settings(max_examples=300)
@given(text=TEXT)
@example("  two  spaces  \n ")
@example("\x00")
@example("<s> </s> <unk> <0x0A>")
def test_ids_are_sentencepieces_own_on_any_text(path, theirs, text) -> None:
    ours = sentencepiece_bpe(path.read_bytes())[0]
    ours.encode_special_tokens = True
    assert ours.encode(text, add_special_tokens=False).ids == theirs.encode(text)


def test_text_is_sentencepieces_own(path, theirs) -> None:
    tokenizer = Tokenizer.load(path)
    rng = random.Random(1)
    for _ in range(200):
        ids = [rng.randrange(259, 512) for _ in range(20)]
        assert tokenizer.decode(ids) == theirs.decode(ids)


def train(**options) -> bytes:
    model = io.BytesIO()
    defaults = {
        "sentence_iterator": iter(["aaaa aab abab baaa b", "a ab aaaaab bbb abba"] * 20),
        "model_type": "bpe",
        "vocab_size": 275,
        "byte_fallback": True,
        "normalization_rule_name": "identity",
    }
    sentencepiece.SentencePieceTrainer.train(model_writer=model, minloglevel=2, **defaults | options)
    return model.getvalue()


@pytest.mark.parametrize("options", [{}, {"add_dummy_prefix": False}, {"remove_extra_whitespaces": False}])
def test_other_models_too_where_pieces_overlap(options) -> None:
    """Runs of the same letter, where the order of like merges matters; the settings that llama2.c has on, off."""
    model = train(**options)
    ours, _ = sentencepiece_bpe(model)
    theirs = sentencepiece.SentencePieceProcessor(model_proto=model)
    rng = random.Random(0)
    for _ in range(500):
        text = "".join(rng.choices("aaab  c", k=rng.randrange(20)))
        ids = theirs.encode(text)
        assert ours.encode(text, add_special_tokens=False).ids == ids, text
        assert ours.decode(ids) == theirs.decode(ids)


def test_no_merges_make_a_control_piece() -> None:
    """In this model "<s" and ">" are pieces, but not even they may become the token that begins a story."""
    sentences = iter(["a<s x<s y> z>", "b<s c<s d>"] * 50)
    model = train(sentence_iterator=sentences, vocab_size=272, split_by_unicode_script=False)
    theirs = sentencepiece.SentencePieceProcessor(model_proto=model)
    ours, start = sentencepiece_bpe(model)
    ours.encode_special_tokens = True
    assert (start, theirs.piece_to_id("<s") > 2, theirs.piece_to_id(">") > 2) == ("<s>", True, True)
    for text in ("a<s>", "<s>", "x<s> <0x41>"):
        assert ours.encode(text, add_special_tokens=False).ids == theirs.encode(text)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"model_type": "unigram", "vocab_size": 270}, "not BPE"),
        ({"byte_fallback": False, "vocab_size": 15}, "byte pieces"),
        ({"normalization_rule_name": "nmt_nfkc"}, "normalization"),
        ({"user_defined_symbols": ["<x>"]}, "user-defined"),
        ({"bos_id": -1}, "BOS"),
    ],
)
def test_other_kinds_are_refused_with_the_reason(options, reason, tmp_path) -> None:
    (tmp_path / "other.model").write_bytes(train(**options))
    with pytest.raises(DataError, match=reason) as caught:
        Tokenizer.load(tmp_path / "other.model")
    assert "other.model" in str(caught.value)


def test_a_cut_file_is_refused(path, tmp_path) -> None:
    whole = path.read_bytes()
    for length in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        (tmp_path / "cut.model").write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"cut\.model"):
            Tokenizer.load(tmp_path / "cut.model")
