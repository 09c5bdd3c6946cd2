"""A contest against the clock: a recipe trained from nothing in so many minutes, and judged on stories it has not seen.

What counts is everything after the tokenizer's training: starting Python, reading, cleaning and encoding the stories,
compiling (with empty caches), training and saving. The judge's pass over the validation stories does not. Each heat is
a process of its own, so that nothing of an earlier one helps it.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from types import FrameType
from typing import Any

from storylm.config.errors import SetupError, UsageError
from storylm.config.files import atomic_folder, write_text
from storylm.config.load import apply_overrides, from_yaml, to_yaml
from storylm.config.schema import RunConfig
from storylm.data.prepare import prepare_cached
from storylm.data.preparing.plan import OWN
from storylm.model.count import parameters
from storylm.training.heat import RECIPE, RUN
from storylm.training.manifest import MANIFEST
from storylm.training.run_folder import differences, portable_settings, saved_config, with_absolute_paths

RESULT, RESULTS, SPENT = "heat.json", "speedrun.json", "spent"
HARDWARE = ("cpu", "cores", "gpus")  # what makes a machine another: a newer kernel does not
STOPS = (signal.SIGINT, signal.SIGTERM)
Judge = Callable[[Path], float]  # bits per byte of the model in a folder


@dataclass(frozen=True)
class Heat:
    """A recipe trained once. `seconds` are those that count."""

    seed: int
    bits_per_byte: float
    seconds: float
    steps: int
    tokens: int


class Speedrun:
    """Heats of one recipe in `folder`, the same one for each seed. Those that have been run are not run again.

    Raises `UsageError` where the recipe has no time limit, there is nothing to judge by, or the folder is another's.
    """

    def __init__(self, config: RunConfig, folder: Path):
        if config.train.minutes is None:
            raise UsageError("a speedrun is against the clock: say --minutes, or name a recipe that does")
        if config.data.validation is None:
            raise UsageError("say --validation: stories to judge by, on which nothing is trained")
        self.config, self.folder = with_absolute_paths(config), folder
        if (recipe := folder / RECIPE).exists():
            before = from_yaml(recipe.read_text(encoding="utf-8"), str(recipe))
            if before != self.config:
                raise UsageError(
                    f"{folder} holds heats of another recipe ({differences(before, self.config)}): choose another --out"
                )
        elif folder.exists() and any(folder.iterdir()):
            raise UsageError(f"{folder} is not empty and holds no speedrun: choose another --out")

    def heat(self, seed: int, judge: Judge) -> Heat:
        """Run and judge the heat of this seed, or go on with it; what it gave where it has been run.

        Raises `SetupError` where its process fails and `SystemExit`, as it ends, where it is stopped.
        """
        folder = self.folder / f"heat-{seed}"
        if (done := folder / RESULT).exists():
            return Heat(**json.loads(done.read_text(encoding="utf-8")))
        # Not begun to train, or killed, so that nobody knows how long it took.
        if saved_config(folder / RUN) is None or not (folder / SPENT).exists():
            overrides = [f"train.seed={seed}", f"tokenizer={self._begin()}"]
            shutil.rmtree(folder, ignore_errors=True)
            write_text(folder / RECIPE, to_yaml(apply_overrides(self.config, overrides)))
        model = folder / RUN / "checkpoints" / "last"
        if _state(model).get("ended") is None:  # it may be only the judging that was stopped
            self._run(folder)
        state, seconds = _state(model), round(float((folder / SPENT).read_text()), 1)
        heat = Heat(seed, round(judge(model), 4), seconds, state["step"], state["tokens"])
        write_text(done, json.dumps(asdict(heat)) + "\n")
        return heat

    def finish(self, heats: Sequence[Heat]) -> dict[str, Any]:
        """Write speedrun.json: the heats, their median and spread, recipe, stories, software and machine; what it says.

        Raises `UsageError` where they were not all run on the same machine.
        """
        figures = [heat.bits_per_byte for heat in heats]
        sessions = [session for heat in heats for session in self._sessions(heat.seed)]
        session = sessions[0]
        if any(each["machine"][part] != session["machine"][part] for each in sessions for part in HARDWARE):
            raise UsageError(
                f"the heats in {self.folder} were run on different machines and make no record: "
                "delete those that are not of this one, and run the command again"
            )
        results = {
            "what": "bits per byte after so many minutes of wall time, compiling included",
            "recipe": self.config.name,
            "minutes": self.config.train.minutes,
            "parameters": parameters(self.config.model),
            "bits_per_byte": {"median": round(median(figures), 4), "min": min(figures), "max": max(figures)},
            "heats": [asdict(heat) for heat in heats],
            "settings": portable_settings(self.config),
            **{key: session[key] for key in ("stories", "software", "machine", "started")},
            "commits": list(dict.fromkeys(each["software"]["git"] for each in sessions)),
        }
        write_text(self.folder / RESULTS, json.dumps(results, indent=1) + "\n")
        return results

    def _begin(self) -> str:
        """Make the folder this recipe's; its tokenizer, trained before any clock runs where it is one of its own."""
        own = self.folder / "tokenizer"
        trained = None
        if self.config.tokenizer == OWN and not own.exists():
            trained = prepare_cached(self.config, quiet=True).tokenizer  # without stories no folder is left behind
        write_text(self.folder / RECIPE, to_yaml(self.config))
        if trained is not None:
            with atomic_folder(own) as temporary:
                trained.save(temporary)
        return str(own.absolute()) if self.config.tokenizer == OWN else self.config.tokenizer

    def _sessions(self, seed: int) -> list[dict[str, Any]]:
        """What is known of each process that trained in a heat."""
        manifest = self.folder / f"heat-{seed}" / RUN / MANIFEST
        return json.loads(manifest.read_text(encoding="utf-8"))["sessions"]

    def _run(self, folder: Path) -> None:
        """Run the heat's process; what all its processes took is then in `SPENT`, in seconds."""
        spent = folder / SPENT
        earlier = float(spent.read_text()) if spent.exists() else 0.0
        spent.unlink(missing_ok=True)  # what a process took that is killed nobody knows
        caches = {"STORYLM_CACHE": folder / "cache", "TORCHINDUCTOR_CACHE_DIR": folder / "compiled"}
        environment = {**os.environ, **{name: str(path.absolute()) for name, path in caches.items()}}
        began = time.monotonic()
        command = [sys.executable, "-P", "-m", "storylm.training.heat", str(folder), str(began)]
        asked = 0  # to stop: the exit code that says so

        def stop(number: int, frame: FrameType | None) -> None:
            nonlocal asked
            asked = 128 + number
            process.terminate()  # to a process that has had Ctrl-C itself, and is saving, this is nothing new

        with subprocess.Popen(command, env=environment) as process:
            numbers = [each for each in STOPS if signal.getsignal(each) is not signal.SIG_IGN]
            before = {number: signal.signal(number, stop) for number in numbers}
            try:
                code = process.wait()
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)
        # Also when it was over, or by a signal that came before the process could take care of that itself.
        stopped = asked or {-signal.SIGINT: 130, -signal.SIGTERM: 143}.get(code, code)
        if stopped in (0, 130, 143):
            write_text(spent, str(earlier + time.monotonic() - began))
        if stopped in (130, 143):
            print("stopped: the same command goes on", file=sys.stderr)
            raise SystemExit(stopped)
        if code:
            raise SetupError(f"the heat in {folder} ended with exit code {code}; see above")
        for path in caches.values():
            shutil.rmtree(path, ignore_errors=True)


def _state(checkpoint: Path) -> dict[str, Any]:
    """How far the run of a checkpoint is; nothing where there is none."""
    file = checkpoint / "trainer_state.json"
    return json.loads(file.read_text(encoding="utf-8"))["values"]["state"] if file.exists() else {}
