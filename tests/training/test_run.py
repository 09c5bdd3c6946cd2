"""Whole runs: they learn, resume bit for bit, survive what happens to runs, and end when they should."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import storylm
import storylm.training.judging as judging_module
import storylm.training.learner as learner_module
import storylm.training.run as run_module
import storylm.training.session as session_module
from storylm.config.errors import CheckpointError, SetupError, UsageError, UserError
from storylm.data import grammar
from storylm.data.prepare import prepare_cached
from storylm.training.learner import Learner
from storylm.training.observers import build_observers
from storylm.training.run import resume_run, train_run
from storylm.training.seal import damage
from storylm.training.session import Session
from training.runs import At, interrupt, record_of

KINDS = {
    "adamw": (),
    "muon": ("optim.optimizer=muon",),
    "adamw8bit": ("optim.optimizer=adamw8bit",),
    "ema": ("optim.ema=0.9",),
    "padded": ("data.layout=padded", "train.accumulation=2"),
    "apart": ("data.separate_stories=true", "optim.schedule=wsd"),
    "dropout": ("model.family=gpt2", "model.dropout=0.2"),
    "bf16": ("train.precision=bf16",),
    "fp16": ("train.precision=fp16",),
}


def metrics(folder: Path, kind: str) -> list[dict]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == kind]


def interrupt_after(updates: int, monkeypatch) -> None:
    """Ctrl-C during so many updates from now."""
    original, done = Learner.update, []

    def update(*arguments, **options):
        done.append(1)
        if len(done) == updates:
            interrupt()
        return original(*arguments, **options)

    monkeypatch.setattr(Learner, "update", update)


def equal_after_interruption(config, at: int, tmp_path: Path, monkeypatch) -> None:
    whole = train_run(config, tmp_path / "whole")
    assert (whole.reason, whole.steps, whole.exit_code) == ("finished", 12, 0)
    with monkeypatch.context() as patch:
        interrupt_after(at, patch)
        stopped = train_run(config, tmp_path / "parts")
    assert (stopped.reason, stopped.steps, stopped.exit_code) == ("interrupted", at, 130)
    assert all(line["step"] < at for line in metrics(tmp_path / "parts", "evaluation"))
    done = train_run(config, tmp_path / "parts")
    assert (done.reason, done.steps) == ("finished", 12)
    assert record_of(tmp_path / "parts") == record_of(tmp_path / "whole")
    assert done.validation == whole.validation


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(kind, small, tmp_path, monkeypatch) -> None:
    equal_after_interruption(small(*KINDS[kind]), 8, tmp_path, monkeypatch)  # in the middle of a line of metrics


@pytest.mark.parametrize("at", [6, 12])
def test_a_stop_does_not_wait_for_a_pass_over_validation(at, small, tmp_path, monkeypatch) -> None:
    """Asked for during an update after which validation is due: it is read when the run goes on."""
    equal_after_interruption(small(), at, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # torch.compile warns of its own doings
@pytest.mark.parametrize("kind", ["muon", "padded"])
def test_a_compiled_run_resumes_bit_for_bit(kind, small, tmp_path, monkeypatch) -> None:
    equal_after_interruption(small(*KINDS[kind], "train.compile=on"), 8, tmp_path, monkeypatch)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("kind", ["bf16", "fp16", "muon"])
def test_a_run_on_a_gpu_resumes_bit_for_bit(kind, small, tmp_path, monkeypatch) -> None:
    equal_after_interruption(small(*KINDS[kind], "train.device=cuda"), 8, tmp_path, monkeypatch)


def test_a_killed_run_goes_on_from_its_last_checkpoint_as_if_nothing_had_happened(small, tmp_path) -> None:
    config = small("train.log_every=1")
    train_run(config, tmp_path / "whole")
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from pathlib import Path
from training.runs import At, SMALL, die
from storylm.config.load import resolve
from storylm.training.observers import build_observers
from storylm.training.run import train_run
config, folder = resolve(None, None, [*SMALL, "train.log_every=1"]).config, Path({str(tmp_path / "killed")!r})
train_run(config, folder, observers=[*build_observers(config, folder, 0), At(11, die)])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == -9, done.stderr
    assert metrics(tmp_path / "killed", "step")[-1]["step"] >= 8
    assert resume_run(tmp_path / "killed").steps == 12
    assert record_of(tmp_path / "killed") == record_of(tmp_path / "whole")


def test_a_run_leaves_its_folder_and_a_model_that_tells(small, tmp_path) -> None:
    result = train_run(small(), tmp_path / "run")
    here = {path.relative_to(result.folder).as_posix() for path in result.folder.rglob("*")}
    assert {"config.yaml", "manifest.json", "metrics.jsonl", "samples.md", "loss.png", "checkpoints/last"} <= here
    assert result.model == tmp_path / "run/checkpoints/best"
    model, tokenizer = storylm.load(result.model)
    assert isinstance(storylm.generate(model, tokenizer, "Once", max_new_tokens=5)[0], str)
    assert metrics(result.folder, "step")[-1]["step"] == 12
    assert [line["step"] for line in metrics(result.folder, "evaluation")] == [6, 12]
    assert damage(result.model) is None  # the card is beside what is sealed
    card = (result.model / "README.md").read_text()
    assert "\n# run\n" in card
    assert "bits per byte | " in card
    assert (result.folder / "checkpoints" / "last" / "README.md").is_file()


def test_the_reported_figure_is_that_of_the_model_on_disk_over_all_stories(small, tmp_path) -> None:
    config = small()
    result = train_run(config, tmp_path / "run")
    prepared = session_stories(config)
    model, tokenizer = storylm.load(result.model)
    assert result.validation is not None
    assert result.validation.stories == len(prepared) > 3
    assert result.validation == storylm.evaluate(model, tokenizer, prepared)


def session_stories(config) -> list[str]:
    from storylm.data.prepare import prepare_cached

    return prepare_cached(config).validation_stories()


def test_the_public_function_trains_and_learns(small, tmp_path) -> None:
    config = small("train.steps=80", "train.eval_every=0", "train.sample_every=0", "optim.lr=0.01")
    result = storylm.train(config, tmp_path / "run")
    losses = [line["loss"] for line in metrics(result.folder, "step")]
    assert losses[0] == pytest.approx(torch.tensor(320.0).log().item(), rel=0.1)
    assert losses[-1] < 0.65 * losses[0]


def test_a_finished_run_is_left_alone_and_can_be_extended(small, tmp_path) -> None:
    first = train_run(small(), tmp_path / "run")
    before = record_of(tmp_path / "run")
    again = train_run(small(), tmp_path / "run")
    assert (again.steps, again.reason, again.validation) == (12, "finished", first.validation)
    assert record_of(tmp_path / "run") == before
    longer = resume_run(tmp_path / "run", ["train.steps=15"])
    assert longer.steps == 15
    assert [line["step"] for line in metrics(tmp_path / "run", "step")] == [3, 6, 9, 12, 15]


def test_other_settings_in_the_same_folder_are_refused_and_named(small, tmp_path) -> None:
    train_run(small("train.steps=2"), tmp_path / "run")
    with pytest.raises(UsageError, match=r"optim.lr: 0.001 there, 0.5 here"):
        train_run(small("train.steps=2", "optim.lr=0.5"), tmp_path / "run")
    assert train_run(small("train.steps=3"), tmp_path / "run", fresh=True).steps == 3


def test_a_folder_that_is_no_run_is_never_written_to_or_deleted(small, tmp_path) -> None:
    (tmp_path / "thesis.txt").write_text("three years of work")
    for fresh in (False, True):
        with pytest.raises(UsageError, match="choose another --out"):
            train_run(small(), tmp_path, fresh=fresh)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_fresh_deletes_nothing_before_everything_else_is_in_order(small, tmp_path) -> None:
    train_run(small("train.steps=2"), tmp_path / "run")
    before = record_of(tmp_path / "run")
    for mistake in ("data.source=nowhere.txt", "tokenizer=nowhere.json", "train.device=cuda:99"):
        with pytest.raises(UserError):
            train_run(small(mistake), tmp_path / "run", fresh=True)
    assert record_of(tmp_path / "run") == before


def test_a_refused_resume_leaves_the_run_as_it_was(small, tmp_path) -> None:
    train_run(small("train.steps=2"), tmp_path / "run")
    for mistake in ("model.width=64", "optim.optimizer=muon"):
        with pytest.raises(UserError):
            resume_run(tmp_path / "run", ["train.steps=4", mistake])
    assert resume_run(tmp_path / "run", ["train.steps=3"]).steps == 3


def test_one_process_at_a_time_trains_in_a_folder(small, tmp_path) -> None:
    config = small()
    second = At(3, lambda: train_run(config, tmp_path / "run"))
    second.essential = True
    with pytest.raises(UsageError, match="another process is training"):
        train_run(config, tmp_path / "run", observers=[second])


def test_a_run_goes_on_from_another_working_folder(small, tmp_path, monkeypatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    Path("stories.txt").write_text("<|endoftext|>".join(grammar.stories(0, 0, 60)), encoding="utf-8")
    config = small("data.source=stories.txt?separator=endoftext", "data.validation_share=0.1", "train.steps=2")
    train_run(config, tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    assert resume_run(tmp_path / "run", ["train.steps=3"]).steps == 3


def test_a_place_that_cannot_be_written_is_a_setup_error(small, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is a file"):
        train_run(small(), tmp_path / "file")
    with pytest.raises(SetupError, match="cannot write"):
        train_run(small(), tmp_path / "file" / "run")


def test_nothing_to_resume_is_a_checkpoint_error(tmp_path) -> None:
    with pytest.raises(CheckpointError, match="holds no run"):
        resume_run(tmp_path / "nowhere")


def test_non_finite_steps_are_skipped_and_counted(small, tmp_path, monkeypatch) -> None:
    original, calls = learner_module.next_token_loss, []

    def poisoned(*arguments):
        nats, tokens = original(*arguments)
        calls.append(1)
        return (nats * float("nan"), tokens) if len(calls) in (3, 4) else (nats, tokens)

    monkeypatch.setattr(learner_module, "next_token_loss", poisoned)
    result = train_run(small(), tmp_path / "run")
    assert (result.reason, result.steps, result.skipped) == ("finished", 12, 2)
    model, _ = storylm.load(result.model)
    assert all(torch.isfinite(tensor).all() for tensor in model.state_dict().values())
    assert all(line["loss"] < 10 for line in metrics(result.folder, "step"))


def test_numbers_that_are_read_late_are_the_same(small, tmp_path, monkeypatch) -> None:
    """As on a GPU: not after every step, but when something is due. Skipped steps are counted all the same."""
    original, calls, read = learner_module.next_token_loss, [], []

    def poisoned(*arguments):
        nats, tokens = original(*arguments)
        calls.append(1)
        return (nats * float("nan"), tokens) if len(calls) in (2, 5, 6) else (nats, tokens)

    count = Session._read
    monkeypatch.setattr(Session, "_read", lambda self: read.append(len(self._unread)) or count(self))
    monkeypatch.setattr(learner_module, "next_token_loss", poisoned)
    train_run(small(), tmp_path / "at-once")
    assert max(read) == 1
    calls.clear()
    read.clear()
    monkeypatch.setattr(session_module, "read_late", lambda device: True)
    train_run(small(), tmp_path / "late")
    assert max(read) == 3
    assert record_of(tmp_path / "late") == record_of(tmp_path / "at-once")
    calls[:] = [1] * 4
    stopped = train_run(small("train.max_bad_steps=2"), tmp_path / "stopped")
    assert (stopped.reason, stopped.skipped) == ("diverged", 2)


def test_a_run_that_keeps_failing_stops_and_keeps_its_last_good_checkpoint(
    small, tmp_path, monkeypatch, capsys
) -> None:
    original, calls = learner_module.next_token_loss, []

    def poisoned(*arguments):
        nats, tokens = original(*arguments)
        calls.append(1)
        return (nats * float("inf"), tokens) if len(calls) > 5 else (nats, tokens)

    monkeypatch.setattr(learner_module, "next_token_loss", poisoned)
    result = train_run(small("train.max_bad_steps=4", "train.eval_every=0"), tmp_path / "run")
    assert (result.reason, result.steps, result.skipped, result.exit_code) == ("diverged", 9, 4, 1)
    assert "lower optim.lr" in "".join(capsys.readouterr())
    state = json.loads((tmp_path / "run/checkpoints/last/trainer_state.json").read_text())
    assert "8" in json.dumps(state)  # the newest checkpoint
    storylm.load(tmp_path / "run/checkpoints/last")


def test_fp16_overflow_lowers_the_scale_instead_of_ending_the_run(small, tmp_path, monkeypatch) -> None:
    scalers = []
    original = torch.amp.GradScaler

    def hot(*arguments, **options):
        scalers.append(original(*arguments, init_scale=2.0**40, **options))
        return scalers[-1]

    monkeypatch.setattr(torch.amp, "GradScaler", hot)
    result = train_run(small("train.precision=fp16", "train.max_bad_steps=40", "train.steps=40"), tmp_path / "run")
    assert 0 < result.skipped < 40
    assert scalers[0].get_scale() == 2.0 ** (40 - result.skipped)


class Time:
    """A clock that only moves when something is done, so that a test of time takes none."""

    def __init__(self) -> None:
        self.now = 1000.0

    def spend(self, seconds: float, function):
        def slow(*arguments, **options):
            self.now += seconds
            return function(*arguments, **options)

        return slow


@pytest.mark.parametrize("compiling", [0.0, 20.0])
def test_minutes_end_on_time_decayed_judged_and_saved(compiling, small, tmp_path, monkeypatch) -> None:
    clock = Time()
    monkeypatch.setattr(time, "monotonic", lambda: clock.now)
    update, first = clock.spend(1.0, Learner.update), [compiling]

    def slow_first(*arguments, **options):
        clock.now += first.pop() if first else 0.0
        return update(*arguments, **options)

    monkeypatch.setattr(Learner, "update", slow_first)
    monkeypatch.setattr(judging_module, "evaluate", clock.spend(4.0, judging_module.evaluate))
    options = ("train.eval_stories=null", "train.eval_every=40", "train.sample_every=0", "train.save_every=0")
    config = small("train.steps=null", "train.minutes=1.5", "optim.final_lr_ratio=0.0", *options)
    start = clock.now
    result = train_run(config, tmp_path / "run")
    assert result.reason == "finished"
    assert 0.85 * 90 < clock.now - start <= 90
    assert metrics(result.folder, "step")[-1]["lr"] < 0.1 * config.optim.lr
    assert metrics(result.folder, "evaluation")[-1]["step"] == result.steps
    again = train_run(config, tmp_path / "run")
    assert again.steps == result.steps


def test_minutes_count_over_interruptions(small, tmp_path, monkeypatch) -> None:
    """With what comes before the first step of each session: making the model, starting it as a bigram model."""
    clock = Time()
    monkeypatch.setattr(time, "monotonic", lambda: clock.now)
    monkeypatch.setattr(Learner, "update", clock.spend(1.0, Learner.update))
    monkeypatch.setattr(run_module, "new_model", clock.spend(30.0, run_module.new_model))
    config = small("train.steps=null", "train.minutes=2", "train.eval_every=0", "train.eval_stories=null")
    observers = [*build_observers(config, tmp_path / "run", 0), At(9, interrupt)]
    start = clock.now
    assert train_run(config, tmp_path / "run", observers=observers).reason == "interrupted"
    clock.now += 10_000
    assert train_run(config, tmp_path / "run").steps >= 40
    assert clock.now - start - 10_000 <= 120
    state = json.loads((tmp_path / "run/checkpoints/last/trainer_state.json").read_text())["values"]["state"]
    assert state["lead"] == 31  # of the first session: the model and a step


def test_early_stopping_ends_a_run_without_gain(small, tmp_path) -> None:
    config = small(
        "train.steps=100", "train.patience=2", "train.eval_every=1", "optim.lr=1e-12", "optim.warmup_steps=0"
    )
    result = train_run(config, tmp_path / "run")
    assert result.reason == "no gain"
    assert result.exit_code == 0
    assert result.steps < 20
    assert train_run(config, tmp_path / "run").reason == "no gain"


def test_accumulated_batches_learn_like_one_batch(small, tmp_path) -> None:
    options = ("train.eval_every=0", "train.sample_every=0", "data.layout=padded")
    train_run(small("train.batch_size=8", *options), tmp_path / "one")
    train_run(small("train.batch_size=2", "train.accumulation=4", *options), tmp_path / "four")
    one, four = ([line["loss"] for line in metrics(tmp_path / name, "step")] for name in ("one", "four"))
    assert one == pytest.approx(four, abs=1e-5)


def test_epochs_become_steps(small, tmp_path) -> None:
    result = train_run(small("train.steps=null", "train.epochs=0.25", "train.batch_size=16"), tmp_path / "run")
    tokens = prepare_cached(small()).tokens("train")
    assert result.tokens == pytest.approx(tokens / 4, abs=2 * 16 * 64)


def test_kept_checkpoints(small, tmp_path) -> None:
    train_run(small("train.keep_every=5", "train.keep_log_spaced=true"), tmp_path / "run")
    kept = sorted(path.name for path in (tmp_path / "run/checkpoints").glob("step-*"))
    assert [int(name.removeprefix("step-")) for name in kept] == [1, 2, 4, 5, 8, 10]
    storylm.load(tmp_path / "run/checkpoints" / kept[0])


def test_a_vocabulary_that_does_not_match_is_refused_before_anything_is_written(small, tmp_path) -> None:
    config = small("tokenizer=bytes", "model.vocab_size=100")
    with pytest.raises(UsageError, match=r"model.vocab_size=100: set model.vocab_size="):
        train_run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.filterwarnings("default")  # torch.compile warns of its own doings
def test_compiled_training_equals_eager(small, tmp_path) -> None:
    options = ("train.steps=4", "train.log_every=1", "train.eval_every=0", "train.sample_every=0")
    train_run(small(*options), tmp_path / "eager")
    train_run(small(*options, "train.compile=on"), tmp_path / "compiled")
    eager, compiled = ([line["loss"] for line in metrics(tmp_path / name, "step")] for name in ("eager", "compiled"))
    assert eager == pytest.approx(compiled, abs=1e-4)
