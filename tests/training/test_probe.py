"""The probe: a rehearsal of everything a run does, in a process of its own, and what becomes of one that fails."""

import sys

import pytest
import torch

import storylm.training.probe as probing
import storylm.training.rehearsal as rehearsal
from storylm.config.errors import SetupError, UsageError, UserError
from storylm.data.prepare import prepare
from storylm.training.probe import probe
from storylm.training.run import build_batches


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three steps are enough."""
    monkeypatch.setattr(rehearsal, "SECONDS", 0.0)
    monkeypatch.setattr(rehearsal, "FEWEST_SECONDS", 0.0)


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("overrides", [(), ("data.layout=padded",), ("model.vocab_size=200", "tokenizer=words")])
def test_a_rehearsal_does_all_that_a_run_does(overrides, small, tmp_path) -> None:
    said = []
    config = small("train.accumulation=5", "train.eval_stories=null", *overrides)
    figures = rehearsal.rehearse(config, tmp_path, said.append)
    doing = [line["doing"] for line in said]
    assert doing == ["the first step", "step 1", "step 2", "step 3", "judging, telling and saving"]
    assert (figures["steps"], figures["rows"]) == (3, 8)  # two micro-batches of four
    assert figures["compiled"] is figures["compiled_anew"] is False
    assert figures["step"] > 0
    assert figures["saving"] > 0
    assert figures["memory"] > 100e6
    assert (tmp_path / "checkpoints/last/model.safetensors").exists()
    assert (tmp_path / "metrics.jsonl").exists()
    assert ("judging" in figures) == (config.model.vocab_size > 256)  # the tokens of the rehearsal are bytes
    assert (tmp_path / "checkpoints/last/trainer_state.json").exists()


@pytest.mark.parametrize(
    ("steps", "seconds", "more"),
    [
        (0, 61.0, True),
        (1, 40.0, True),
        (1, 61.0, False),
        (3, 29.0, True),
        (3, 31.0, False),
        (20, 1.0, True),
        (20, 2.5, False),
    ],
)
def test_steps_are_measured_until_there_are_enough_or_it_has_taken_long(steps, seconds, more) -> None:
    assert rehearsal._more(steps, seconds) == more


def test_of_the_run_that_only_makes_a_first_step(small, tmp_path) -> None:
    assert list(rehearsal.rehearse(small(), tmp_path, lambda line: None, first_step_only=True)) == ["first_step"]


def test_as_many_stories_are_judged_as_at_once_in_a_run(small) -> None:
    config = small("model.context=4096", "train.eval_stories=null", "tokenizer=bytes")
    _, _, stories, longest = rehearsal._stories(config)
    assert sum(map(len, stories)) == pytest.approx(16 * 4096, rel=0.02)
    assert len(set(map(len, stories))) > 50
    assert list(map(len, longest)) == [4096] * 16
    _, _, stories, longest = rehearsal._stories(small("model.context=4096", "train.eval_stories=3"))
    assert len(stories) == len(longest) == 3


@pytest.mark.usefixtures("hurried")
def test_prepared_stories_are_rehearsed_with(small, tmp_path) -> None:
    prepared = prepare("grammar?stories=200&validation=20", "bpe", tmp_path / "stories", vocab_size=300)
    config = small(f"data.source={tmp_path / 'stories'}", "train.eval_stories=2")
    batches, tokenizer, stories, longest = rehearsal._stories(config)
    assert tokenizer.fingerprint == prepared.tokenizer.fingerprint
    assert stories == prepared.validation_stories()[:2]
    assert sorted(longest) == sorted(stories)
    whole = small(f"data.source={tmp_path / 'stories'}", "train.eval_stories=null", "model.context=128")
    _, _, stories, longest = rehearsal._stories(whole)
    assert 1 < len(stories) < 20
    assert longest == sorted(prepared.validation_stories(), key=len)[-len(stories) :]
    assert torch.equal(batches.batch(3).tokens_BT, build_batches(config, prepared).batch(3).tokens_BT)
    assert rehearsal.rehearse(config, tmp_path / "run", lambda line: None)["judging"] > 0
    with pytest.raises(UsageError, match=r"set model\.vocab_size=320"):
        rehearsal._stories(small(f"data.source={tmp_path / 'stories'}", "model.vocab_size=280"))


FIGURES = {
    "first_step": 9.0,
    "steps": 20,
    "step": 2.0,
    "rows": 8,
    "compiled": True,
    "compiled_anew": False,
    "peak": 1e12,
    "judging": 0.5,
    "telling": 1.5,
    "saving": 2.5,
    "memory": 10**9,
}


def told(*lines: str) -> list[str]:
    """A process that says so."""
    return [sys.executable, "-c", "import sys; sys.stdin.read()\n" + "\n".join(lines)]


def test_figures_and_progress_come_through(small, monkeypatch) -> None:
    doing: list[str] = []
    lines = ("import json", "print(json.dumps({'doing': 'step 1'}))", f"print(json.dumps({{'figures': {FIGURES}}}))")
    monkeypatch.setattr(probing, "COMMAND", told(*lines))
    found = probe(small(), doing.append)
    assert doing == ["step 1"]
    assert (found.step_seconds, found.rows, found.memory_bytes, found.matmul_flops) == (2.0, 8, 10**9, 1e12)
    assert (found.compile_seconds, found.judging_seconds, found.saving_seconds) == (7.0, 0.5, 2.5)


def test_what_was_compiled_anew_is_compiled_again_as_the_run_will(small, monkeypatch) -> None:
    anew = FIGURES | {"compiled_anew": True, "first_step": 60.0}
    figures = f"{{'first_step': 6.0}} if '--first-step-only' in sys.argv else {anew}"
    monkeypatch.setattr(probing, "COMMAND", told("import json", f"print(json.dumps({{'figures': {figures}}}))"))
    assert probe(small()).compile_seconds == 4.0


def test_what_a_run_would_refuse_the_probe_refuses(small, monkeypatch) -> None:
    error = "{'error': 'no such thing', 'exit_code': 5}"
    monkeypatch.setattr(probing, "COMMAND", told("import json", f"print(json.dumps({error}))"))
    with pytest.raises(UserError, match="no such thing") as caught:
        probe(small())
    assert caught.value.exit_code == 5


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "import os; os.kill(os.getpid(), 9)",
            r"ended the probe: train\.batch_size=4 takes .*try train\.batch_size=2 train\.accumulation=2, or plan with",
        ),
        ("raise ValueError('what a surprise')", r"the probe failed: ValueError: what a surprise; plan with --no-probe"),
        ("sys.exit(3)", r"the probe failed: exit code 3; plan with --no-probe"),
    ],
)
def test_a_probe_that_ends_badly(line, message, small, monkeypatch) -> None:
    monkeypatch.setattr(probing, "COMMAND", told(line))
    with pytest.raises(SetupError, match=message):
        probe(small())


def test_a_real_one(small) -> None:
    found = probe(small("train.eval_stories=null"))
    assert found.rows == 4
    assert found.step_seconds > 0
    assert found.compile_seconds == 0.0
    assert found.memory_bytes is not None
    assert 150e6 < found.memory_bytes < 1500e6


def test_a_real_one_says_what_a_run_would(small) -> None:
    with pytest.raises(UserError, match="no device") as caught:
        probe(small("train.device=abacus"))
    assert caught.value.exit_code == 2
