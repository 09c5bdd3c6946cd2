"""A judge that learned from real and damaged stories what damage is: two linear heads on a model's hidden states.

One says how probable it is that a story is damaged (logistic regression), the other how badly (ridge regression), from
what `features` sees of it. The model itself is left as it was. The folder of a judge is a model folder with two files
more:

    judge.safetensors   mean_F, spread_F (of the features), weight_2F, bias_2
    judge.json          what it learned from
"""

# S stories, F features

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from storylm.config.errors import CheckpointError, DataError, UsageError
from storylm.config.files import atomic_folder, expanded
from storylm.evaluation.judge.examples import Example
from storylm.evaluation.judge.features import summarise
from storylm.model.store import MODEL_FILES, load, write_json, write_model_files
from storylm.model.transformer import Transformer
from storylm.text.tokenizer import Tokenizer

HEADS, ABOUT = "judge.safetensors", "judge.json"
DECAY = 1e-2  # of the weights of standardised features
_SHAPES = ("mean_F", "spread_F", "weight_2F", "bias_2")


@dataclass(frozen=True)
class Heads:
    """From features to the probability of damage and its severity. Made by `fit`."""

    mean_F: Tensor  # noqa: N815 - shapes are capitals
    spread_F: Tensor  # noqa: N815
    weight_2F: Tensor  # noqa: N815
    bias_2: Tensor

    def __call__(self, features_SF: np.ndarray) -> np.ndarray:
        """[S, 2]: the probability that a story is damaged, and how badly, each from 0 to 1."""
        x_SF = (torch.from_numpy(features_SF) - self.mean_F) / self.spread_F
        logit_S, severity_S = (x_SF @ self.weight_2F.T + self.bias_2).unbind(1)
        return torch.stack([torch.sigmoid(logit_S), severity_S.clamp(0, 1)], dim=1).numpy()


def fit(features_SF: np.ndarray, severity_S: np.ndarray) -> Heads:
    """The heads that fit best, of sound (severity 0) and damaged stories; sound ones weigh as much as all damaged ones.

    Raises:
        DataError: all stories are sound, or all are damaged.
    """
    damaged_S = torch.from_numpy(severity_S > 0)
    if damaged_S.all() or not damaged_S.any():
        raise DataError("to learn what damage is takes both sound and damaged stories")
    features = torch.from_numpy(features_SF)
    mean_F, spread_F = features.mean(dim=0), features.std(dim=0, correction=0).clamp(min=1e-6)
    x_SF = (features - mean_F) / spread_F
    share = damaged_S.double().mean()
    weights_S = torch.where(damaged_S, 0.5 / share, 0.5 / (1 - share))
    weights_S /= weights_S.sum()
    logistic_F, logistic_bias = _logistic(x_SF, damaged_S.double(), weights_S)
    ridge_F, ridge_bias = _ridge(x_SF, torch.from_numpy(severity_S), weights_S)
    return Heads(mean_F, spread_F, torch.stack([logistic_F, ridge_F]), torch.stack([logistic_bias, ridge_bias]))


def _logistic(x_SF: Tensor, damaged_S: Tensor, weights_S: Tensor) -> tuple[Tensor, Tensor]:
    weight_F = torch.zeros(x_SF.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight_F, bias], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        nats_S = F.binary_cross_entropy_with_logits(x_SF @ weight_F + bias, damaged_S, reduction="none")
        loss = (weights_S * nats_S).sum() + DECAY / 2 * weight_F.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return weight_F.detach(), bias.detach()


def _ridge(x_SF: Tensor, severity_S: Tensor, weights_S: Tensor) -> tuple[Tensor, Tensor]:
    middle_F, middle = weights_S @ x_SF, weights_S @ severity_S
    centred_SF = x_SF - middle_F
    square_FF = (centred_SF * weights_S[:, None]).T @ centred_SF + DECAY * torch.eye(x_SF.shape[1]).double()
    weight_F = torch.linalg.solve(square_FF, (centred_SF * weights_S[:, None]).T @ (severity_S - middle))
    return weight_F, middle - middle_F @ weight_F


class LearnedJudge:
    """A model, its tokenizer and the heads; `about` says what it learned from.

    >>> judge = LearnedJudge.load("judges/first")                               # doctest: +SKIP
    >>> judge.grade(["Once upon a time, time a upon once."])                    # doctest: +SKIP
    array([[0.97, 0.61]])
    """

    def __init__(self, model: Transformer, tokenizer: Tokenizer, heads: Heads, about: dict[str, Any]):
        self.model, self.tokenizer, self.heads, self.about = model, tokenizer, heads, about

    @classmethod
    def learn(
        cls, model: Transformer, tokenizer: Tokenizer, examples: Sequence[Example], about: dict[str, Any]
    ) -> "LearnedJudge":
        """A judge that has seen the examples. Raises what `fit` and `summarise` raise."""
        seen = summarise(model, tokenizer, [one.text for one in examples])
        heads = fit(seen.features_SF, np.array([one.severity for one in examples]))
        kinds = sorted({one.kind for one in examples if one.kind})
        return cls(model, tokenizer, heads, {**about, "examples": len(examples), "damages": kinds})

    def grade(self, stories: Sequence[str]) -> np.ndarray:
        """[S, 2]: the probability that a story is damaged, and how badly, each from 0 to 1.

        Raises:
            DataError: one is empty.
        """
        if empty := next((number for number, story in enumerate(stories, 1) if not story), None):
            raise DataError(f"story {empty} is empty: there is nothing to judge")
        return self.heads(summarise(self.model, self.tokenizer, stories).features_SF)

    def save(self, folder: str | Path) -> None:
        """Write the judge's folder, whole or not at all; a judge that stands there is replaced.

        Raises:
            UsageError: something else stands there.
        """
        from safetensors.torch import save_file

        folder = expanded(folder)
        there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        if folder.is_file() or (there and (ABOUT not in there or there - MODEL_FILES - {HEADS, ABOUT})):
            raise UsageError(f"{folder} holds something else than a judge: name a new folder")
        with atomic_folder(folder) as temporary:
            write_model_files(self.model, self.tokenizer, temporary)
            save_file({name: getattr(self.heads, name).contiguous() for name in _SHAPES}, temporary / HEADS)
            write_json(temporary / ABOUT, self.about)

    @classmethod
    def load(cls, folder: str | Path, device: torch.device | str = "cpu") -> "LearnedJudge":
        """The judge of a folder.

        Raises:
            CheckpointError: there is none, or its heads are not the model's.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        folder = expanded(folder)
        if not (folder / ABOUT).is_file():
            raise CheckpointError(
                f"{folder} holds no judge: `storylm judge MODEL --learn STORIES --out FOLDER` makes one"
            )
        model, tokenizer = load(folder)
        try:
            heads = Heads(**load_file(folder / HEADS))
            about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        except (OSError, ValueError, TypeError, SafetensorError) as error:
            raise CheckpointError(f"{folder} is a damaged judge ({error}): make it again") from error
        size = 3 * model.config.width + 2
        shapes = [tuple(getattr(heads, name).shape) for name in _SHAPES]
        if tokenizer is None or shapes != [(size,), (size,), (2, size), (2,)]:
            raise CheckpointError(f"{folder}: the heads are not of this model: make the judge again")
        return cls(model.to(device), tokenizer, heads, about)
