"""Every contender trains the same model on the same tokens, and does all of a loop's work."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from peers.child import take
from peers.gpt import GPT, Shape
from peers.ours import own_config
from peers.plain import get_batch, shape_of
from peers.settings import config_of, padded_vocabulary
from peers.turn import Turn

from benchmarks.tiny import turn
from storylm.model.count import parameters

ROWS, CONTEXT = 3, 16


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning", "ignore:.*:FutureWarning", "ignore:.*pin_memory.*")
@pytest.mark.parametrize("preset", ["gpt2-33m", "xs-3m", "mistral-40m"])
@pytest.mark.parametrize("contender", ["storylm-eager", "plain", "plain-bf16", "trainer", "trainer-bf16"])
def test_a_turn_is_taken(contender: str, preset: str, tmp_path: Path) -> None:
    if preset == "mistral-40m" and contender.endswith("bf16"):
        pytest.skip("as the others")
    measured = take(turn(contender, tmp_path, preset, laps=3))
    # A fresh model knows nothing. The Trainer divides by all tokens of a row, though its first one is no target.
    known = (CONTEXT - 1) / CONTEXT if contender.startswith("trainer") else 1.0
    assert math.log(320) * known - 0.1 < measured["first_loss"] < math.log(320) + 0.1
    assert len(measured["lap_seconds"]) == 3
    assert min(measured["lap_seconds"]) > 0
    assert measured["peak_bytes"] >= measured["peak_bytes_before"] > 2**20
    assert measured["version"]


def test_storylm_runs_as_for_its_users_and_does_nothing_but_train(tmp_path: Path) -> None:
    a_turn = turn("storylm", tmp_path)
    config = own_config(a_turn)
    assert (config.train.compile, config.train.precision) == ("auto", "auto")
    assert config.train.steps is not None
    assert config.train.steps >= 1000, "too short for compile=auto"
    take(turn("storylm-eager", tmp_path))
    run = tmp_path / "run"
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 3  # a line each lap, as every observer was told
    assert not list(run.glob("checkpoints/*"))
    assert not (run / "samples.md").exists()


def test_all_have_the_settings_of_the_turn(tmp_path: Path) -> None:
    config = config_of(turn("plain", tmp_path))
    ours = own_config(turn("storylm", tmp_path))
    assert config.model == ours.model
    assert config.optim == ours.optim
    assert (config.train.batch_size, config.row_length) == (ROWS, CONTEXT)
    assert (ours.train.batch_size, ours.row_length, ours.train.accumulation) == (ROWS, CONTEXT, 1)


@pytest.mark.parametrize("preset", ["gpt2-33m", "mistral-40m"])
def test_the_plain_loop_trains_as_many_weights(preset: str, tmp_path: Path) -> None:
    """To within biases, norms and positions, which are GPT-2's own."""
    config = config_of(turn("plain", tmp_path, preset))
    shape = shape_of(config)
    matrices = sum(p.numel() for n, p in GPT(shape).named_parameters() if p.ndim == 2 and "positions" not in n)
    vectors = sum(p.numel() for n, p in GPT(shape).named_parameters() if p.ndim == 1)
    assert abs(matrices - parameters(config.model)) <= vectors + shape.context * shape.width


def test_the_plain_model_is_gpt2() -> None:
    """The same scores as the class of transformers from the same weights, and the loss of the same targets."""
    from transformers import GPT2Config, GPT2LMHeadModel

    shape = Shape(vocab_size=50, context=24, layers=3, width=32, heads=4, ff_width=96)
    torch.manual_seed(0)
    ours = GPT(shape)
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.normal_(0.0, 0.3)
    names = {"n_positions": shape.context, "n_embd": shape.width, "n_layer": shape.layers, "n_head": shape.heads}
    config = GPT2Config(vocab_size=50, n_inner=96, activation_function="gelu", bos_token_id=0, eos_token_id=0, **names)
    theirs = GPT2LMHeadModel(config).eval()
    theirs.load_state_dict(renamed(ours.state_dict()))
    tokens_BT = torch.randint(50, (2, 20))
    logits_BTV, loss = ours(tokens_BT[:, :-1], tokens_BT[:, 1:])
    torch.testing.assert_close(logits_BTV, theirs(tokens_BT[:, :-1]).logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(loss, theirs(tokens_BT, labels=tokens_BT).loss, atol=1e-4, rtol=1e-4)


def renamed(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """With the names of transformers, whose matrices in the blocks lie the other way round."""
    names = {
        "embedding": "transformer.wte",
        "positions": "transformer.wpe",
        "blocks": "transformer.h",
        "attention_norm": "ln_1",
        "attention.qkv": "attn.c_attn",
        "attention.out": "attn.c_proj",
        "ff_norm": "ln_2",
        "up": "mlp.c_fc",
        "down": "mlp.c_proj",
        "head": "lm_head",
    }
    result = {}
    for name, tensor in weights.items():
        turned = name.startswith("blocks.") and tensor.ndim == 2
        for old, new in names.items():
            name = name.replace(old, new)
        name = f"transformer.ln_f{name.removeprefix('norm')}" if name.startswith("norm") else name
        result[name] = tensor.T if turned else tensor
    return result


def test_nanogpt_reads_rows_and_the_same_one_token_on(tmp_path: Path) -> None:
    np.arange(1000, dtype=np.uint16).tofile(tmp_path / "t.bin")
    tokens_BT, targets_BT = get_batch(str(tmp_path / "t.bin"), "uint16", 5, 7, "cpu")
    assert tokens_BT.shape == targets_BT.shape == (5, 7)
    assert tokens_BT.dtype == torch.int64
    assert (targets_BT == tokens_BT + 1).all()
    assert (tokens_BT.diff() == 1).all()


def test_gpt2s_vocabulary_is_padded_as_nanogpts_users_have_it() -> None:
    assert [padded_vocabulary(size) for size in (50_257, 10_000, 320)] == [50_304, 10_000, 320]


def test_a_checkout_of_nanogpt_can_stand_in(tmp_path: Path) -> None:
    """A model.py with nanoGPT's names is trained by the same loop; what it lacks is refused."""
    (tmp_path / "model.py").write_text(
        "from dataclasses import dataclass\n"
        "from peers.gpt import GPT as Ours, Shape\n"
        "@dataclass\n"
        "class GPTConfig:\n"
        "    block_size: int\n    vocab_size: int\n    n_layer: int\n    n_head: int\n    n_embd: int\n"
        "    dropout: float\n    bias: bool\n"
        "class GPT(Ours):\n"
        "    def __init__(self, c):\n"
        "        super().__init__(Shape(c.vocab_size, c.block_size, c.n_layer, c.n_embd, c.n_head, 4 * c.n_embd))\n"
    )
    assert take(turn("nanogpt", tmp_path, nanogpt=str(tmp_path)))["first_loss"] == pytest.approx(math.log(320), abs=0.1)
    with pytest.raises(SystemExit, match="4 x width"):
        take(turn("nanogpt", tmp_path, "mistral-40m", nanogpt=str(tmp_path)))


def test_a_loop_that_ends_early_is_no_measurement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peers.plain.run", lambda *_: None)
    with pytest.raises(RuntimeError, match="before its"):
        take(Turn("plain", "xs-3m", (), "", str(tmp_path)))
