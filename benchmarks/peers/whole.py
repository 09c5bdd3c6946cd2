"""A peer's whole run: trained from nothing for so many seconds, and saved as a model folder.

`python -m peers.whole TURN.json BEGAN RESULT.json`, with benchmarks/ on the path. The clock runs from BEGAN, when the
process was started (`time.monotonic`); the stories are prepared before that, and saving comes after the clock has
stopped. Rates fall by storylm's own clock, as if the user had known how many steps there would be time for.
"""

import json
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset
from transformers import AutoConfig, AutoModelForCausalLM, Trainer, TrainerCallback

from storylm.config.schema import RunConfig
from storylm.data.prepare import prepare_cached
from storylm.data.prepared import Prepared
from storylm.data.shards import TokenSet, token_dtype
from storylm.model.families import to_config_json
from storylm.model.loss import IGNORED
from storylm.model.store import save
from storylm.model.transformer import Transformer
from storylm.optim.schedule import learning_rate_factor
from storylm.training.clock import MinuteClock

from .gpt import GPT
from .hf_trainer import Rows, arguments
from .plain import get_batch, shape_of
from .settings import config_of
from .turn import Turn


def train_plain(turn: Turn, config: RunConfig, prepared: Prepared, clock: MinuteClock) -> dict[str, Any]:
    """nanoGPT's loop: fp32, not compiled, as its README says for a CPU."""
    if turn.flags:
        raise SystemExit(f"{turn.contender}: this loop is fp32 and not compiled; leave out {', '.join(turn.flags)}")
    torch.manual_seed(1337)
    model, optim, rows, context = GPT(shape_of(config)), config.optim, config.train.batch_size, config.row_length
    optimizer = model.configure_optimizers(optim.weight_decay, optim.lr, optim.betas, "cpu")
    dtype, steps = token_dtype(config.model.vocab_size), 0
    while (done := clock.progress(steps)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = optim.lr * learning_rate_factor(optim, steps, done)
        _, loss = model(*get_batch(turn.tokens, dtype, rows, context, "cpu"))
        loss.backward()
        if optim.clip is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), optim.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        steps += 1
    seconds = clock.elapsed()
    save(as_transformer(model, config), prepared.tokenizer, Path(turn.folder) / "model")
    return {"seconds": seconds, "steps": steps, "tokens": steps * rows * context}


def as_transformer(model: GPT, config: RunConfig) -> Transformer:
    """The same weights under storylm's names, whose GPT-2 computes the same."""
    names = {"positions.weight": "positions.table.weight"}
    state = {}
    for name, tensor in model.state_dict().items():
        if ".attention.qkv." in name:
            for part, third in zip("qkv", tensor.chunk(3), strict=True):
                state[name.replace("qkv", part)] = third
        elif name != "head.weight":  # the embedding table
            name = name.replace(".up.", ".ff.up.").replace(".down.", ".ff.down.")
            state[names.get(name, name)] = tensor
    with torch.device("meta"):
        ours = Transformer(config.model)
    ours.load_state_dict(state, assign=True)
    return ours


def train_trainer(turn: Turn, config: RunConfig, prepared: Prepared, clock: MinuteClock) -> dict[str, Any]:
    """The Trainer of transformers with its own class; rows as the preset has them: full, or one story in each."""
    torch.manual_seed(config.train.seed)
    described = to_config_json(config.model)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(described.pop("model_type"), **described))
    settings = arguments(turn, config)
    settings.lr_scheduler_type, settings.warmup_steps = "constant", 0  # `ByTheClock` sets the rate
    settings.logging_steps = 10**9
    watch = ByTheClock(config, clock)
    if config.data.layout == "padded":
        data: Dataset = Stories(prepared.split("train"), config.row_length - 1)
    else:
        data = Rows(turn, config)

    def together(rows: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        watch.fetched.append(sum(len(row["input_ids"]) for row in rows))
        return padded(rows)

    Trainer(model, settings, together, data, callbacks=[watch]).train()
    seconds = clock.elapsed()
    folder = Path(turn.folder) / "model"
    model.save_pretrained(folder)
    prepared.tokenizer.save(folder)
    return {"seconds": seconds, "steps": watch.steps, "tokens": watch.tokens}


class Stories(Dataset):
    """One story a row, between its start and its end token, cut at the context."""

    def __init__(self, tokens: TokenSet, context: int):
        start = [tokens.start_id] if tokens.start_id == tokens.end_id else []  # else each story's first token is one
        stories = (shard[story] for shard in tokens.shards for story in range(len(shard)))
        self.rows = [np.concatenate([start, story[:context]]).astype("int64") for story in stories]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        ids = torch.from_numpy(self.rows[row])
        return {"input_ids": ids, "labels": ids, "attention_mask": torch.ones_like(ids)}


FILLERS = {"input_ids": 0, "labels": IGNORED, "attention_mask": 0}


def padded(rows: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Dynamic padding: to the longest row of the batch. Nothing is learned of what was filled in."""
    return {
        key: pad_sequence([row[key] for row in rows], batch_first=True, padding_value=filler)
        for key, filler in FILLERS.items()
        if key in rows[0]
    }


class ByTheClock(TrainerCallback):
    """Sets the learning rate, counts, and ends the training when the time is over."""

    def __init__(self, config: RunConfig, clock: MinuteClock):
        self.optim, self.clock = config.optim, clock
        self.steps = self.tokens = 0
        self.fetched: deque[int] = deque()  # tokens of batches, which are fetched before they are trained on

    def on_step_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        factor = learning_rate_factor(self.optim, self.steps, self.clock.progress(self.steps))
        for group in given["optimizer"].param_groups:
            group["lr"] = self.optim.lr * factor

    def on_substep_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.tokens += self.fetched.popleft()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.on_substep_end(args, state, control)
        self.steps += 1
        control.should_training_stop = self.clock.progress(self.steps) >= 1


KINDS: dict[str, Callable[[Turn, RunConfig, Prepared, MinuteClock], dict[str, Any]]] = {
    "plain": train_plain,
    "trainer": train_trainer,
}


if __name__ == "__main__":
    turn_file, began, result_file = sys.argv[1:]
    turn = Turn.read(Path(turn_file))
    config = config_of(turn)
    clock = MinuteClock(turn.seconds / 60, started=float(began))
    done = KINDS[turn.kind](turn, config, prepare_cached(config, quiet=True), clock)
    Path(result_file).write_text(json.dumps(done), encoding="utf-8")
