"""One heat of a speedrun, in a process of its own: `python -m storylm.training.heat FOLDER BEGAN`.

In FOLDER lies the recipe; BEGAN is when the heat's process was started, by the clock that all processes share.
"""

import sys
import time
from pathlib import Path
from threading import Thread

import torch

from storylm.config.errors import UserError
from storylm.config.load import apply_overrides, from_yaml
from storylm.data.prepare import prepare_cached
from storylm.model import native
from storylm.training.run import resume_run, train_run
from storylm.training.run_folder import saved_config

RECIPE, RUN = "recipe.yaml", "run"
# What only looks at the run is left out: the judge comes afterwards.
SETTINGS = (
    "train.eval_every=0",
    "train.eval_stories=1",
    "train.judge_all=false",
    "train.sample_every=0",
    "train.sample_prompts=[]",
    "train.save_every=0",
    "track.plot=false",
)
# Seconds set aside for the process to end in, and for each minute of the budget: longer runs have more to save.
ENDING, A_MINUTE = 1.5, 0.05


def run_heat(folder: Path, began: float) -> int:
    """Train in what is left of the recipe's minutes; the exit code. A heat that was stopped goes on."""
    run = folder / RUN
    if (saved := saved_config(run)) is not None:
        return resume_run(run, [_what_is_left(saved.train.minutes, began)]).exit_code
    config = from_yaml((folder / RECIPE).read_text(encoding="utf-8"), str(folder / RECIPE))
    kernels = Thread(target=native.available, args=(torch.device("cpu"),))  # built meanwhile, by a process of their own
    kernels.start()
    prepare_cached(config, quiet=True)
    kernels.join()
    left = _what_is_left(config.train.minutes, began)
    return train_run(apply_overrides(config, [*SETTINGS, left]), run).exit_code


def _what_is_left(minutes: float | None, began: float) -> str:
    """The setting for a run that begins now, by the clock of this process."""
    assert minutes is not None  # `speedrun` sees to it
    gone = time.monotonic() - began + ENDING + A_MINUTE * minutes
    return f"train.minutes={max(minutes - gone / 60, 0.01)}"


def main() -> int:
    """Run the heat; as `storylm`, it says in a line what a user can put right."""
    try:
        return run_heat(Path(sys.argv[1]), float(sys.argv[2]))
    except UserError as error:
        print(f"storylm: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
