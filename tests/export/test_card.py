"""The model card: what the Hub reads at its top, what people read below, and nothing of anyone's disk."""

import json
from pathlib import Path

import pytest
import yaml

from export.conftest import config
from model.model_zoo import tokenizer_model
from storylm.export.card import CARD, WRITTEN_BY, model_card, renamed, write_card
from storylm.export.exporting import export
from storylm.export.provenance import Provenance, provenance
from storylm.text.tokenizer import Tokenizer

KNOWN = Provenance("tinystories", "roneneldan/TinyStories", "story-5m", 1000, 8_192_000, 0.71234, 100)


def header(card: str) -> dict:
    return yaml.safe_load(card.split("---\n")[1])


def test_a_filled_card(own: Tokenizer) -> None:
    settings = config("mistral", kv_heads=2, windows=(8,))
    card = model_card(settings, own, "someone/stories", KNOWN, license="mit")
    top = header(card)
    assert top["license"] == "mit"
    assert (top["language"], top["library_name"]) == ("en", "transformers")
    assert top["datasets"] == ["roneneldan/TinyStories"]
    (index,) = top["model-index"]
    assert index["name"] == "stories"
    assert index["results"][0]["metrics"][0]["value"] == 0.7123
    assert WRITTEN_BY in card
    for words in (
        "0.7123 on 100 validation stories",
        "1,000 steps, 8,192,000 tokens",
        "40 tokens, attention windows of 8",
    ):
        assert words in card
    assert f'tokenizer("{own.start}Once upon a time", add_special_tokens=False' in card
    assert "The model: mit. The stories it learned from" not in card  # of these no licence is known here
    assert "The model: mit." in card


def test_the_hubs_own_parser_reads_it(own: Tokenizer) -> None:
    hub = pytest.importorskip("huggingface_hub")
    data = hub.ModelCard(model_card(config("llama"), own, "someone/stories", KNOWN, license="mit")).data
    assert data.license == "mit"
    assert data.eval_results[0].metric_value == 0.7123
    assert data.eval_results[0].dataset_type == "roneneldan/TinyStories"


def test_what_is_not_known_is_left_out() -> None:
    card = model_card(config("llama"), None, "mine", Provenance())
    assert header(card).keys() == {"library_name", "pipeline_tag", "tags"}
    assert "None" not in card
    assert "bits per byte" not in card


def test_renamed_is_as_if_written_under_that_name(own: Tokenizer) -> None:
    first, second = (model_card(config("llama"), own, name, KNOWN) for name in ("out", "someone/stories"))
    assert renamed(first, "out", "someone/stories").split("---\n", 2)[2] == second.split("---\n", 2)[2]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    for name in ("best", "last"):
        folder = tmp_path / "run" / "checkpoints" / name
        folder.mkdir(parents=True)
        state = {"step": 40, "tokens": 1234, "best_pass": {"nats": 693.147, "bytes": 500, "stories": 7}}
        (folder / "trainer_state.json").write_text(json.dumps({"step": 40, "values": {"state": state}}))
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("source", "named", "dataset"),
    [
        ("tinystories-v2", "tinystories-v2", "roneneldan/TinyStories"),
        ("tinystories?revision=v2", "tinystories", "roneneldan/TinyStories"),
        ("grammar?stories=200&seed=1", "the stories built into storylm", None),
        ("someone/stories", "someone/stories", "someone/stories"),
        ("/home/me/private/stories.txt", None, None),
        ("~/stories.txt", None, None),
        ("C:\\Users\\me\\stories.txt", None, None),
        ("private/stories.txt", None, None),
        ("../stories", None, None),
    ],
)
def test_where_stories_come_from(source: str, named: str | None, dataset: str | None, run: Path) -> None:
    (run / "config.yaml").write_text(yaml.safe_dump({"name": "mine", "data": {"source": source}}))
    found = provenance(run / "checkpoints" / "best")
    assert (found.source, found.dataset) == (named, dataset)
    assert (found.preset, found.steps, found.tokens, found.stories) == ("mine", 40, 1234, 7)
    assert found.bits_per_byte == pytest.approx(2.0, abs=1e-4)
    assert provenance(run / "checkpoints" / "last").bits_per_byte is None  # it is not that one's


def test_a_folder_here_is_no_dataset_of_the_hub(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (run / "config.yaml").write_text(yaml.safe_dump({"name": "mine", "data": {"source": "someone/stories"}}))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "someone" / "stories").mkdir(parents=True)
    assert provenance(run / "checkpoints" / "best").source is None


def test_what_is_no_run_tells_nothing(run: Path, tmp_path: Path) -> None:
    assert provenance(tmp_path) == Provenance()
    assert provenance(run / "checkpoints" / "best") == Provenance()  # without config.yaml
    (run / "config.yaml").write_text("{")
    assert provenance(run / "checkpoints" / "best") == Provenance()


def test_an_exported_folder_has_it(tmp_path: Path) -> None:
    tokenizer = Tokenizer.load("bytes")
    export(tokenizer_model("llama", tokenizer), tokenizer, "hf", tmp_path / "mine", provenance=KNOWN)
    assert (tmp_path / "mine" / CARD).read_text().startswith("---\nlanguage: en\n")


SESSION = {
    "data": "d" * 64,
    "tokenizer": "t" * 64,
    "stories": {"train": {"stories": 2000, "tokens": 400_000, "bytes": 1_600_000, "dropped": {}}},
    "software": {"storylm": "0.1.0", "torch": "2.13"},
    "machine": {"gpus": [], "cpu": "A CPU", "cores": 2},
}


def test_a_card_is_filled_from_the_run(run: Path, own: Tokenizer) -> None:
    settings = {
        "name": "story-5m",
        "tokenizer": "/home/me/tokenizer.json",
        "model": {"context": 64},
        "data": {"source": "tinystories", "context": None, "layout": "packed"},
        "optim": {"optimizer": "muon", "lr": 0.003, "schedule": "wsd", "clip": None},
        "train": {"batch_size": 8, "accumulation": 4, "seed": 5},
    }
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    (run / "manifest.json").write_text(json.dumps({"sessions": [{}, SESSION]}))
    origin = provenance(run / "checkpoints" / "best")
    card = model_card(config("llama"), own, "stories", origin)
    for words in (
        "| trained on | tinystories: 2,000 stories, 400,000 tokens, 1,600,000 bytes |",
        f"prepared stories `{'d' * 64}`; tokenizer `{'t' * 64}`",
        "story-5m, tokenizer of a file, optimizer muon, lr 0.003, schedule wsd, layout packed, rows a step 32, "
        "tokens a row 64, seed 5",
        "40 steps, 1,234 tokens, on A CPU, 2 cores",
        "storylm 0.1.0, torch 2.13",
        "The stories it learned from: cdla-sharing-1.0.",
        "No licence has been chosen",
    ):
        assert words in card, words
    assert "/home" not in card
    (run / "manifest.json").write_text("{")
    assert provenance(run / "checkpoints" / "best").source == "tinystories"


def test_a_card_is_written_but_never_over_a_persons(run: Path, own: Tokenizer) -> None:
    folder = run / "checkpoints" / "best"
    write_card(folder, config("llama"), own, "first", KNOWN)
    write_card(folder, config("llama"), own, "second", KNOWN)
    assert "# second\n" in (folder / CARD).read_text()
    (folder / CARD).write_text("Mine.")
    write_card(folder, config("llama"), own, "third", KNOWN)
    assert (folder / CARD).read_text() == "Mine."
