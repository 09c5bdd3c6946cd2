"""Finding a tokenizer by name, file, folder or Hub id; one clear line where there is none."""

import json
from pathlib import Path

import huggingface_hub
import huggingface_hub.errors
import pytest
import tokenizers

from storylm.config.errors import DataError, SetupError, UsageError, UserError
from storylm.text.files import has_tokenizer
from storylm.text.tokenizer import Tokenizer


def refused(source: object, *words: str, error: type[UserError] = DataError) -> None:
    with pytest.raises(error) as caught:
        Tokenizer.load(source)  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


@pytest.fixture
def no_hub(monkeypatch) -> list[str]:
    """The Hub, asked in vain; what it is asked for."""
    asked: list[str] = []

    def snapshot_download(repo: str, **_options: object) -> str:
        asked.append(repo)
        raise huggingface_hub.errors.LocalEntryNotFoundError("cannot find it\nin the cache")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return asked


@pytest.fixture
def own(tokenizer_of, tmp_path) -> Path:
    """A folder with a tokenizer of 400 tokens at most."""
    tokenizer_of("own").save(tmp_path / "own")
    return tmp_path / "own"


def test_names_that_mean_nothing(no_hub, tmp_path) -> None:
    refused("gtp2", "'gtp2'", "did you mean 'gpt2'")
    refused("nonsense", "bytes, gpt2, mistral")
    refused(tmp_path / "missing" / "tokenizer.json", "missing")
    refused("owner/tokenizer.json", "no such file")
    refused("x" * 5000, "no such file")
    refused("~nosuchuser/x", "no such file")
    assert no_hub == []


def test_bpe_has_to_be_trained() -> None:
    with pytest.raises(UsageError, match="storylm tokenizer"):
        Tokenizer.load("bpe")


def test_a_path_in_a_folder_that_exists_is_not_sought_on_the_hub(no_hub, monkeypatch, tmp_path) -> None:
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    refused("runs/missing", "no such file or folder")
    assert no_hub == []


def test_the_hub_out_of_reach(no_hub, monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    for source, repo in (
        ("gpt2", "gpt2"),
        ("mistral", "mistralai/Mistral-7B-v0.1"),
        ("someone/Model-7B-v0.1", "someone/Model-7B-v0.1"),
    ):
        refused(source, repo, "cannot find it", "local folder", error=SetupError)
        assert no_hub.pop() == repo


@pytest.mark.parametrize(
    ("kind", "error", "words"),
    [
        (huggingface_hub.errors.RepositoryNotFoundError, DataError, "no repository 'owner/name'"),
        (huggingface_hub.errors.GatedRepoError, SetupError, "gated"),
    ],
)
def test_what_the_hub_says(kind, error, words, monkeypatch) -> None:
    def snapshot_download(_repo: str, **_options: object) -> str:
        raise kind.__new__(kind)  # how it is made differs from version to version

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    refused("owner/name", words, error=error)


def test_a_folder_comes_before_the_hub_and_the_hub_is_a_folder(no_hub, own, monkeypatch) -> None:
    own.rename(own.parent / "gpt2")
    monkeypatch.chdir(own.parent)
    found = Tokenizer.load("gpt2")
    assert (found.name, no_hub) == ("gpt2", [])
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda repo, **_: str(own.parent / "gpt2"))
    assert Tokenizer.load("owner/name").fingerprint == found.fingerprint


def test_a_model_folder_without_tokenizer(tmp_path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert not has_tokenizer(tmp_path)
    refused(tmp_path, str(tmp_path), "no tokenizer", "tokenizer.json")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"model": {}}', b"\xff\xfe\x00", b"null"])
@pytest.mark.parametrize("name", ["tokenizer.json", "other.json", "tok.model", "vocab.txt", "tokenizer"])
def test_damaged_files(tmp_path, name, content) -> None:
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, name)


def test_damaged_files_in_a_folder(own) -> None:
    assert has_tokenizer(own)
    config = (own / "tokenizer_config.json").read_text()
    (own / "tokenizer_config.json").write_text(config[:-5])
    refused(own, "tokenizer_config.json")
    (own / "tokenizer_config.json").write_text(config)
    whole = (own / "tokenizer.json").read_bytes()
    (own / "tokenizer.json").write_bytes(whole[: len(whole) // 2])
    assert has_tokenizer(own)
    refused(own, "tokenizer.json", "damaged")


def test_gpt2_files_that_do_not_belong_together(tmp_path) -> None:
    (tmp_path / "vocab.json").write_text('{"a": 0, "b": 1}')
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b\n")
    refused(tmp_path, "vocab.json", "merges.txt")


def add_tokens(folder: Path, *contents: str, special: bool) -> None:
    spec = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    size = len(spec["model"]["vocab"]) + len(spec["added_tokens"]) - 1
    common = {"special": special, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    spec["added_tokens"] += [{"id": size + i, "content": content, **common} for i, content in enumerate(contents)]
    (folder / "tokenizer.json").write_text(json.dumps(spec))


@pytest.mark.parametrize(
    ("files", "start", "end"),
    [
        ({}, "<|endoftext|>", "<|endoftext|>"),
        ({"tokenizer_config.json": {"bos_token": None, "eos_token": "<z>"}}, "<z>", "<z>"),
        ({"tokenizer_config.json": {"bos_token": {"content": "<y>"}, "eos_token": {"content": "<z>"}}}, "<y>", "<z>"),
        ({"tokenizer_config.json": {"bos_token": "<y>"}}, "<y>", "<y>"),
        ({"tokenizer_config.json": {"x": 9}, "special_tokens_map.json": {"eos_token": "<z>"}}, "<z>", "<z>"),
        (
            {"tokenizer_config.json": {"eos_token": "<y>"}, "special_tokens_map.json": {"eos_token": "<z>"}},
            "<y>",
            "<y>",
        ),
        ({"config.json": {"bos_token_id": -2, "eos_token_id": [-1, 3]}}, "<y>", "<z>"),
        ({"config.json": {"bos_token_id": 70000, "eos_token_id": 70000}}, "<|endoftext|>", "<|endoftext|>"),
    ],
)
def test_files_beside_it_name_start_and_end(own, files, start, end) -> None:
    """What names no token of the vocabulary does not count."""
    add_tokens(own, "<y>", "<z>", special=False)
    (own / "tokenizer_config.json").unlink()
    size = tokenizers.Tokenizer.from_file(str(own / "tokenizer.json")).get_vocab_size()
    for name, content in files.items():
        text = json.dumps(content)  # negative ids count from the vocabulary's end
        (own / name).write_text(text.replace("-2", str(size - 2)).replace("-1", str(size - 1)))
    tokenizer = Tokenizer.load(own)
    assert (tokenizer.start, tokenizer.end) == (start, end)
    assert tokenizer.special_ids.isdisjoint(tokenizer.encode("<y><z><|endoftext|>"))


def test_a_character_cannot_end_stories(own) -> None:
    (own / "tokenizer_config.json").write_text('{"eos_token": "."}')
    refused(own, "'.'", "for its end")


def test_added_tokens_special_or_not(own) -> None:
    add_tokens(own, "<pad>", special=True)
    add_tokens(own, "<word>", special=False)
    tokenizer = Tokenizer.load(own)
    word = tokenizer.vocab_size - 1
    assert tokenizer.special_ids == {0, word - 1}
    ids = tokenizer.encode("a<pad><word>a")
    assert ids.count(word) == 1
    assert word - 1 not in ids
    assert tokenizer.decode([*ids, word - 1]) == "a<pad><word>a"
    assert [batch.tolist() for batch in tokenizer.encode_batch(["a<pad><word>a"])] == [ids]


def test_without_a_word_on_how_stories_end(own) -> None:
    text = (own / "tokenizer.json").read_text("utf-8")
    (own / "tokenizer.json").write_text(text.replace("<|endoftext|>", "<other>"), "utf-8")
    refused(own, "eos_token", "tokenizer_config.json")
    (own / "tokenizer_config.json").write_text('{"eos_token": "<other>"}')
    assert Tokenizer.load(own).end == "<other>"
