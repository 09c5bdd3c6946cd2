"""The parts of `storylm evaluate --harness`: which tasks, and a line on stderr of what is being asked."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from storylm.evaluation.zero_shot import Tasks, ZeroShot
    from storylm.model.transformer import Transformer
    from storylm.text.tokenizer import Tokenizer


def zero_shot_tasks(given: str) -> "Tasks":
    """What `--harness` names.

    Raises:
        UsageError: nothing, or what is no task.
        SetupError: the extra `harness` is not installed.
    """
    from storylm.config.errors import UsageError
    from storylm.evaluation.zero_shot import Tasks

    names = [name.strip() for name in given.split(",") if name.strip()]
    if not names:
        raise UsageError("--harness is empty: it takes tasks of lm-eval, as in --harness blimp,lambada_openai")
    return Tasks(names)


def ask_tasks(
    tasks: "Tasks", model: "Transformer", tokenizer: "Tokenizer", limit: int | None, batch_size: int
) -> "ZeroShot":
    """Ask them, saying what is asked and afterwards what was left out."""
    said = sys.stderr
    with _no_bars():
        found = tasks.ask(
            model, tokenizer, limit, batch_size, lambda name: print(f"asking {name}", file=said, flush=True)
        )
    for name, why in found.left_out.items():
        print(f"{name} is left out: {why}", file=said)
    return found


@contextlib.contextmanager
def _no_bars() -> Iterator[None]:
    """lm-eval and its libraries draw bars on stderr, which are for a terminal only."""
    if sys.stderr.isatty():
        yield
        return
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        yield
