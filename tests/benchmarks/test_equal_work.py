"""Whole runs of peers, judged as storylm's are."""

import argparse
import json
import math
from dataclasses import replace
from pathlib import Path

import equal_work
import pytest
import torch
from peers.gpt import GPT
from peers.machine import Stolen
from peers.plain import shape_of
from peers.settings import config_of
from peers.whole import KINDS, Stories, as_transformer, padded

from benchmarks.tiny import turn
from storylm.config.errors import SetupError, UserError
from storylm.config.load import apply_overrides
from storylm.config.schema import RunConfig
from storylm.data.prepare import prepare_cached
from storylm.evaluation.corpus import Corpus
from storylm.model.loss import IGNORED
from storylm.training.clock import MinuteClock

UNIFORM = math.log(320)  # nats per token of a model to which all tokens of the small vocabulary are alike
SMALL = [
    "model.vocab_size=320",
    "model.context=32",
    "model.width=32",
    "model.layers=2",
    "model.heads=2",
    "model.ff_width=64",
    "tokenizer=bpe",
    "data.cleaning.fragments=false",
    "train.compile=off",
    "train.batch_size=2",
]
STORIES = ["--data", "grammar?stories=200&validation=3", "--validation", "grammar?stories=1&validation=4"]
SETTINGS = [argument for setting in SMALL for argument in ("--set", setting)]


def test_nanogpts_weights_are_the_same_model_as_ours(tmp_path: Path) -> None:
    settings = ("model.activation=gelu", "model.context=16", "model.vocab_size=320")
    given = turn("plain", tmp_path)
    config = config_of(replace(given, overrides=(*given.overrides, *settings)))
    torch.manual_seed(0)
    theirs = GPT(shape_of(config)).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.2)  # biases, too
    tokens_BT = torch.randint(320, (2, 16))
    with torch.no_grad():
        logits_BTV, _ = theirs(tokens_BT, tokens_BT)
        assert torch.allclose(as_transformer(theirs, config)(tokens_BT), logits_BTV, atol=1e-4)


def test_a_padded_row_is_a_story_between_its_two_ends(tmp_path: Path) -> None:
    config = apply_overrides(config_of(turn("trainer", tmp_path)), ["data.layout=padded"])
    prepared = prepare_cached(config)
    tokens, end = prepared.split("train"), prepared.tokenizer.end_id
    rows = Stories(tokens, 2000)
    first = tokens.shards[0][0].tolist()
    assert rows[0]["input_ids"].tolist() == [end, *first]
    assert first[-1] == end
    lengths = [len(rows[row]["input_ids"]) for row in range(3)]
    batch = padded([rows[row] for row in range(3)])
    assert batch["attention_mask"].sum(1).tolist() == lengths
    for row, length in enumerate(lengths):
        assert (batch["labels"][row, length:] == IGNORED).all()
        assert (batch["labels"][row, :length] == batch["input_ids"][row, :length]).all()
    assert max(map(len, Stories(tokens, 20).rows)) == 21


class Steps(MinuteClock):
    """A clock that goes on by a hundredth of the time whenever it is looked at, however busy the machine is."""

    looks = 0

    def elapsed(self) -> float:
        self.looks += 1
        return 60 * self.minutes * self.looks / 100


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning", "ignore:.*:FutureWarning", "ignore:.*pin_memory.*")
@pytest.mark.parametrize(
    ("contender", "preset", "settings"),
    [
        ("plain", "gpt2-33m", ()),
        ("trainer", "gpt2-33m", ()),
        ("trainer", "mistral-40m", ("data.layout=padded", "model.windows=[32]")),
    ],
)
def test_what_peers_save_is_what_they_trained(
    contender: str, preset: str, settings: tuple[str, ...], tmp_path: Path
) -> None:
    """Fifty steps or more: a model that knows nothing, as an untrained one, cannot do better than chance."""
    given = turn(contender, tmp_path, preset, seconds=50.0)
    quick = ("optim.lr=1e-2", "optim.warmup_steps=5", "model.context=32", "data.context=32", *settings)
    given = replace(given, overrides=(*given.overrides, *quick))
    config = config_of(given)
    done = KINDS[given.kind](given, config, prepare_cached(config, quiet=True), Steps(given.seconds / 60))
    assert done["steps"] > 45
    full = done["steps"] * config.train.batch_size * config.row_length
    assert full / 4 < done["tokens"] <= full if config.data.layout == "padded" else done["tokens"] == full
    result = equal_work.judged(tmp_path / "model", Corpus("grammar?validation=4"))
    assert result["nats_per_token"] < UNIFORM - 0.8  # they are 0.92 to 1.34 below


def test_every_kind_is_trained_judged_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORYLM_CACHE", "")  # restored after the script has set it
    names = ["nanogpt", "gpt2-33m, 1e-4", "mistral-40m, Trainer"]
    output = tmp_path / "results.json"
    command = [*names, "--minutes", "0.1", *STORIES, *SETTINGS, "--output", str(output)]
    assert equal_work.main(command) == 0
    results = json.loads(output.read_text(encoding="utf-8"))
    assert list(results["entries"]) == names
    for row in results["entries"].values():
        # On a busy machine the seconds are over before the first step; that training helps, the test above sees to.
        assert 0 < row["nats_per_token"] < UNIFORM + 0.1
        assert row["tokens"] >= row["steps"] * 2
        assert row["precision"] in ("fp32", "bf16")
        assert row["story"].startswith(equal_work.PROMPT)
        assert row["seconds"] > 5
    assert equal_work.main([*command, "--plot", str(tmp_path / "images/bars.png")]) == 0  # nothing is left but to draw
    assert (tmp_path / "images/bars.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads(output.read_text(encoding="utf-8"))["entries"] == results["entries"]


def test_the_same_text_for_all_has_no_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STORYLM_CACHE", "")
    output = tmp_path / "results.json"
    names = ["word-20m, 1e-3", "simple-5m"]  # one says its epochs, one has a share of them as its warm-up
    command = [*names, "--passes", "0.05", *STORIES, *SETTINGS, "--output", str(output)]
    assert equal_work.main([*command, "--set", "model.kv_heads=2", "--set", "optim.lr=1e-2"]) == 0
    results = json.loads(output.read_text(encoding="utf-8"))
    assert results["what"] == "bits per byte after 0.05 passes"
    assert list(results["entries"]) == names
    stories, packed = results["entries"].values()
    assert max(stories["nats_per_token"], packed["nats_per_token"]) < UNIFORM - 0.3
    assert stories["steps"] == pytest.approx(92, abs=3)  # a whole pass takes 1,846
    assert packed["tokens"] == packed["steps"] * 2 * 32
    for wrong, why in (
        (["nanogpt", "--passes", "0.1"], "'nanogpt' takes part only against the clock: leave out --passes"),
        (["story-33m"], "'story-33m' takes part only without a clock: give --passes"),
        (["--passes", "0"], "argument --passes: invalid positive value: '0'"),
    ):
        with pytest.raises(SystemExit):
            equal_work.arguments(wrong)
        assert why in capsys.readouterr().err


def test_what_a_preset_says_now_is_measured_and_a_heat_that_fails_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row is of its settings: where one has changed, in the preset or by hand, it is measured anew."""
    monkeypatch.setenv("STORYLM_CACHE", "")
    output, measured = tmp_path / "results.json", []

    def heat(config: RunConfig, folder: Path) -> tuple[Path, dict]:
        measured.append(config.optim.lr)
        raise SetupError("out of luck")

    def result(entry: equal_work.Entry, options: argparse.Namespace, *_: object) -> dict:
        measured.append(entry.name)
        return {"settings": equal_work.settings_of(entry, options), "bits_per_byte": 1.0}

    command = ["xs-3m, 5e-4", *STORIES, "--output", str(output)]
    with monkeypatch.context() as patch:
        patch.setattr(equal_work, "train_ours", heat)
        assert equal_work.main(command) == 1
    assert json.loads(output.read_text(encoding="utf-8"))["entries"]["xs-3m, 5e-4"]["failed"] == "out of luck"
    monkeypatch.setattr(equal_work, "measure", result)
    for _ in range(2):
        assert equal_work.main(command) == 0
    assert measured == [5e-4, "xs-3m, 5e-4"]
    assert equal_work.main([*command, "--set", "optim.clip=0.7"]) == 0
    assert len(measured) == 3


def test_time_that_others_were_given_is_told(tmp_path: Path) -> None:
    """Of two processors together, from the beginning on; where nothing is said of it, nothing is claimed."""
    stat = tmp_path / "stat"
    stat.write_text("cpu  100 0 20 500 0 0 0 40 7 0\ncpu0 50 0 10 250 0 0 0 40 7 0\n")
    stolen = Stolen(stat)
    assert stolen.share() == 0
    stat.write_text("cpu  150 5 20 500 0 0 5 60 7 0\ncpu0 50 0 10 250 0 0 0 40 7 0\n")
    assert stolen.share() == 20 / 80
    assert Stolen(tmp_path / "none").share() is None


@pytest.mark.parametrize(("name", "given"), [("equal-work", []), ("equal-text", ["--passes", "0.5"])])
def test_what_the_pages_show_is_of_the_presets_as_they_are(name: str, given: list[str]) -> None:
    """Each with the settings that it has now; tokenizers apart, which may not be at hand."""
    options, rows = equal_work.arguments(given), measured_rows(name)
    entries = {entry.name: entry for entry in equal_work.ENTRIES if entry.name in options.names}
    assert set(rows) <= set(entries)
    assert options.passes or set(rows) == set(entries)
    for system, row in rows.items():
        now, then = equal_work.settings_of(entries[system], options), row["settings"]
        assert {key for key in now | then if now.get(key) != then.get(key)} <= {"tokenizer"}, system


def measured_rows(name: str) -> dict:
    path = Path(equal_work.__file__).parent / "results" / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8"))["entries"]


def test_an_unknown_system_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        equal_work.arguments(["gpt5"])
    assert "unknown name 'gpt5': there are story-1m; " in capsys.readouterr().err


def test_every_entry_has_settings_that_exist() -> None:
    options = equal_work.arguments([])
    for entry in equal_work.ENTRIES:
        assert equal_work.run_of(entry, options).train.minutes == 10


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("story-15m", equal_work.OURS),
        ("xs-3m, 3e-3", equal_work.FAITHFUL),
        ("nanogpt", equal_work.PEERS),
        ("mistral-40m, Trainer", equal_work.PEERS),
    ],
)
def test_our_recipes_published_shapes_and_peers_are_told_apart(name: str, kind: str) -> None:
    (entry,) = (each for each in equal_work.ENTRIES if each.name == name)
    assert equal_work.kind_of({"preset": entry.preset, "trainer": entry.trainer}) == kind


@pytest.fixture
def of_another_machine(tmp_path: Path) -> Path:
    output = tmp_path / "results.json"
    text = json.dumps({"entries": {"story-1m": {"machine": {"processor": "another"}}}})
    output.write_text(text, encoding="utf-8")
    return output


def test_results_of_another_machine_are_not_added_to(
    of_another_machine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = of_another_machine.read_text(encoding="utf-8")
    nowhere = ["--output", str(of_another_machine), "--data", "none", "--validation", "none"]
    assert equal_work.main(["story-1m", *nowhere]) == 2
    assert "results of another machine" in " ".join(capsys.readouterr().err.split())
    assert of_another_machine.read_text(encoding="utf-8") == before
    with pytest.raises(UserError, match="none"):  # of the same text they are, and what is missing are the stories
        equal_work.main(["story-1m", "--passes", "0.5", *nowhere])


def test_results_of_another_length_are_not_added_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "results.json"
    output.write_text(json.dumps({"entries": {}, "what": "bits per byte after 0.5 passes"}), encoding="utf-8")
    assert equal_work.main(["--passes", "1", "--output", str(output)]) == 2
    assert "has bits per byte after 0.5 passes: name another" in " ".join(capsys.readouterr().err.split())
