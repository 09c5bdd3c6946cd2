"""The Trainer of transformers with its own class of the same family and shape, on rows tokenized beforehand."""

from typing import Any

import torch
import transformers
from torch import Tensor
from torch.utils.data import Dataset
from transformers import AutoConfig, AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments

from storylm.config.schema import RunConfig
from storylm.model.families import to_config_json

from .settings import config_of, read_tokens
from .turn import Laps, Turn


class Rows(Dataset):
    """The tokens in rows of the same length, in memory: nothing a data loader does could be cheaper."""

    def __init__(self, turn: Turn, config: RunConfig):
        tokens = torch.from_numpy(read_tokens(turn, config).astype("int64"))
        self.rows_NT = tokens[: len(tokens) // config.row_length * config.row_length].view(-1, config.row_length)

    def __len__(self) -> int:
        return len(self.rows_NT)

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        return {"input_ids": self.rows_NT[row], "labels": self.rows_NT[row]}


class LapCallback(TrainerCallback):
    """Looks at the clock whenever the trainer logs."""

    def __init__(self, laps: Laps):
        self.laps = laps

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        self.laps.lap((logs or {})["loss"])


def run(turn: Turn, laps: Laps, ready: Any) -> None:
    """Train until the laps are done."""
    config = config_of(turn)
    rows = Rows(turn, config)
    ready(version=f"transformers {transformers.__version__}")
    torch.manual_seed(config.train.seed)
    described = to_config_json(config.model)
    theirs = AutoConfig.for_model(described.pop("model_type"), **described)
    model = AutoModelForCausalLM.from_config(theirs)
    trainer = Trainer(model, arguments(turn, config), train_dataset=rows, callbacks=[LapCallback(laps)])
    trainer.train()


def arguments(turn: Turn, config: RunConfig) -> TrainingArguments:
    """What someone who wants it fast would set."""
    on_gpu, optim = turn.device != "cpu", config.optim
    return TrainingArguments(
        output_dir=turn.folder,
        use_cpu=not on_gpu,
        max_steps=100_000,
        per_device_train_batch_size=config.train.batch_size,
        learning_rate=optim.lr,
        adam_beta1=optim.betas[0],
        adam_beta2=optim.betas[1],
        weight_decay=optim.weight_decay,
        max_grad_norm=optim.clip or 0.0,
        lr_scheduler_type="cosine",
        warmup_steps=100,
        optim="adamw_torch_fused",
        bf16="bf16" in turn.flags,
        tf32=True if on_gpu else None,
        torch_compile="compile" in turn.flags,
        use_liger_kernel="liger" in turn.flags,
        dataloader_num_workers=4 if on_gpu else 0,  # a CPU's cores have enough to do
        dataloader_pin_memory=on_gpu,
        dataloader_drop_last=True,
        logging_steps=turn.lap_steps,
        logging_nan_inf_filter=False,  # would wait for the GPU in every step
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
