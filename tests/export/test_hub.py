"""`push`, through huggingface_hub itself, to a Hub of the tests' own; and back again."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from export.stand_in_hub import TOKEN, StandInHub, stand_in_hub
from model.model_zoo import random_model, same_weights, tokenizer_model
from storylm.config.errors import DataError, SetupError, UsageError
from storylm.export.hub import push
from storylm.model.store import load, save
from storylm.text.tokenizer import Tokenizer

constants = pytest.importorskip("huggingface_hub.constants")
# huggingface_hub's own, of httpx.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[StandInHub]:
    with stand_in_hub() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.address)
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace("https://huggingface.co", server.address)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True, raising=False)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tokenizer = Tokenizer.load("bytes")
    save(tokenizer_model("qwen3", tokenizer), tokenizer, tmp_path / "model")
    return tmp_path / "model"


def test_what_is_pushed_is_what_is_loaded(hub: StandInHub, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert push(folder, "someone/stories", license="mit") == f"{hub.address}/someone/stories"
    repository = hub.repositories["someone/stories"]
    assert repository.private
    names = {"README.md", "config.json", "generation_config.json", "model.safetensors"}
    assert set(repository.files) == names | {"tokenizer.json", "tokenizer_config.json"}
    model, tokenizer = load("someone/stories")
    assert same_weights(model, load(folder)[0])
    assert tokenizer is not None
    assert tokenizer.fingerprint == Tokenizer.load("bytes").fingerprint
    printed = capsys.readouterr()
    assert TOKEN not in printed.out + printed.err + repr(repository)


def test_the_card_names_the_repository(hub: StandInHub, folder: Path) -> None:
    push(folder, "someone/stories", license="mit")
    text = hub.repositories["someone/stories"].files["README.md"].decode()
    _, header, page = text.split("---\n", 2)
    assert yaml.safe_load(header)["license"] == "mit"
    assert yaml.safe_load(header)["pipeline_tag"] == "text-generation"
    assert 'from_pretrained("someone/stories")' in page


def test_public_where_asked_and_again_into_one_that_exists(hub: StandInHub, folder: Path) -> None:
    push(folder, "someone/stories", public=True)
    other = random_model(load(folder)[0].config, seed=5)
    save(other, Tokenizer.load("bytes"), folder)
    push(folder, "someone/stories")
    repository = hub.repositories["someone/stories"]
    assert not repository.private
    assert len(repository.commits) == 2
    assert same_weights(load("someone/stories")[0], other)


def test_a_readme_goes_along(hub: StandInHub, folder: Path) -> None:
    (folder / "README.md").write_text("---\nlicense: cc0-1.0\n---\n\n# model\n\nMine.\n")
    with pytest.raises(UsageError, match=r"README\.md is there already .* write license: mit at its top"):
        push(folder, "someone/stories", license="mit")
    assert not hub.requests
    push(folder, "someone/stories")
    text = hub.repositories["someone/stories"].files["README.md"].decode()
    assert text == "---\nlicense: cc0-1.0\n---\n\n# someone/stories\n\nMine.\n"


def test_who_is_not_logged_in_is_told_how(
    hub: StandInHub, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_another")
    with pytest.raises(SetupError, match=r"run `hf auth login`, or set HF_TOKEN") as caught:
        push(folder, "someone/stories")
    assert "hf_another" not in str(caught.value)
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    with pytest.raises(SetupError, match="hf auth login"):
        push(folder, "someone/stories")


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (403, SetupError, "you may not write to someone/stories"),
        (400, DataError, "the Hub refuses someone/stories"),
        (422, DataError, "the Hub refuses someone/stories"),
    ],
)
def test_refusals_are_one_line(hub: StandInHub, folder: Path, status: int, error: type, words: str) -> None:
    hub.refuse = status
    with pytest.raises(error, match=words) as caught:
        push(folder, "someone/stories")
    assert "\n" not in str(caught.value)
    assert TOKEN not in str(caught.value)


def test_without_a_network(folder: Path, hub: StandInHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(SetupError, match="check the network, and run the command again"):
        push(folder, "someone/stories")


@pytest.mark.parametrize("name", ["stories", "a/b/c", "/stories", "some one/stories", "../x/y"])
def test_what_is_no_name(name: str, folder: Path) -> None:
    with pytest.raises(UsageError, match="give OWNER/NAME"):
        push(folder, name)
