"""The plain PyTorch loop, set up as nanoGPT's users do, written anew; or with the model of a nanoGPT checkout.

    plain                   fp32, not compiled: --device=cpu --compile=False, as its README says for a CPU
    plain-bf16-compile      its defaults on a GPU

Learned positions, LayerNorm, GELU, one table for embedding and head, logits of the whole batch in one piece. Models of
other families are trained in this shape, too: layers, width, heads, and as many weights in a feed-forward layer.
"""

import math
import sys
from contextlib import nullcontext
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from storylm.config.schema import RunConfig
from storylm.data.shards import token_dtype

from .gpt import GPT, Shape
from .settings import config_of, gpt2_feedforward, padded_vocabulary
from .turn import Laps, Turn


def run(turn: Turn, laps: Laps, ready: Any) -> None:
    """Train until the laps are done."""
    config, flags = config_of(turn), turn.flags
    torch.manual_seed(1337)
    if turn.device == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True
    ready(version=f"torch {torch.__version__}")
    model: Any = (checkout_model(turn, config) if turn.kind == "nanogpt" else GPT(shape_of(config))).to(turn.device)
    optim = config.optim
    optimizer = model.configure_optimizers(optim.weight_decay, optim.lr, optim.betas, turn.device)
    trained = torch.compile(model) if "compile" in flags else model
    precision = torch.autocast(turn.device, torch.bfloat16) if "bf16" in flags else nullcontext()
    dtype = token_dtype(config.model.vocab_size)

    def next_batch() -> tuple[Tensor, Tensor]:
        return get_batch(turn.tokens, dtype, config.train.batch_size, config.row_length, turn.device)

    tokens_BT, targets_BT = next_batch()
    step = 0
    while True:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(optim.lr, step)
        with precision:
            _, loss = trained(tokens_BT, targets_BT)
        tokens_BT, targets_BT = next_batch()  # while a GPU is still at work
        loss.backward()
        if optim.clip is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), optim.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        if step % turn.lap_steps == 0:
            laps.lap(loss.item())


def get_batch(path: str, dtype: str, batch_size: int, context: int, device: str) -> tuple[Tensor, Tensor]:
    """Rows from anywhere in the file and the same one token on, [B, T] each, as nanoGPT's users read them."""
    data = np.memmap(path, dtype=dtype, mode="r")  # anew each time: an old one would keep its pages
    starts = torch.randint(len(data) - context, (batch_size,))
    tokens_BT = torch.stack([torch.from_numpy(data[i : i + context].astype(np.int64)) for i in starts])
    targets_BT = torch.stack([torch.from_numpy(data[i + 1 : i + 1 + context].astype(np.int64)) for i in starts])
    if device == "cpu":
        return tokens_BT, targets_BT
    return tuple(rows.pin_memory().to(device, non_blocking=True) for rows in (tokens_BT, targets_BT))  # pyright: ignore


def learning_rate(peak: float, step: int, warmup: int = 100, steps: int = 5000) -> float:
    """Linear warm-up, then a cosine to a tenth of the peak."""
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    return peak * (0.55 + 0.45 * math.cos(math.pi * min(1.0, (step - warmup) / (steps - warmup))))


def shape_of(config: RunConfig) -> Shape:
    """The GPT-2 with the model's sizes."""
    model = config.model
    return Shape(
        vocab_size=padded_vocabulary(model.vocab_size),
        context=model.context,
        layers=model.layers,
        width=model.width,
        heads=model.heads,
        ff_width=gpt2_feedforward(model),
        dropout=model.dropout,
    )


def checkout_model(turn: Turn, config: RunConfig) -> torch.nn.Module:
    """The same shape as the class of the checkout `turn.nanogpt`. It knows only feed-forward layers of 4 x width."""
    shape = shape_of(config)
    if shape.ff_width != 4 * shape.width:
        raise SystemExit(f"nanoGPT has no {turn.preset}: its feed-forward layers have 4 x width, not {shape.ff_width}")
    spec = spec_from_file_location("nanogpt_model", Path(str(turn.nanogpt)) / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = module_from_spec(spec)
    spec.loader.exec_module(module)
    sizes = {"n_layer": shape.layers, "n_head": shape.heads, "n_embd": shape.width, "dropout": shape.dropout}
    return module.GPT(module.GPTConfig(block_size=shape.context, vocab_size=shape.vocab_size, bias=True, **sizes))
