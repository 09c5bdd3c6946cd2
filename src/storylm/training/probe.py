"""What a run takes of this machine, measured: `rehearsal` in a process of its own, whose memory is the run's."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from storylm.config.errors import SetupError, UserError
from storylm.config.load import to_yaml
from storylm.config.schema import RunConfig
from storylm.training.out_of_memory import settings_for, smaller_batches

# -P: a torch.py in the folder where someone happens to be is not the torch that is meant.
COMMAND = [sys.executable, "-P", "-m", "storylm.training.rehearsal"]
Watch = Callable[[str], None]


@dataclass(frozen=True)
class Probe:
    """Seconds and bytes, as measured. `step_seconds` are those of `rows` rows; judging is that of one story.

    `matmul_flops` are those a second that the device could do (`training.peak`).
    """

    step_seconds: float
    rows: int
    compile_seconds: float
    judging_seconds: float
    telling_seconds: float
    saving_seconds: float
    memory_bytes: int | None
    matmul_flops: float


def probe(config: RunConfig, watch: Watch | None = None) -> Probe:
    """Rehearse some steps of the run of `config`; `watch` is told what is being done.

    Where the compiler had to work, the first step is rehearsed once more: the run, too, will find what it has kept.

    Raises:
        SetupError: the memory is not enough, or the rehearsal failed.
        UserError: whatever the run itself would refuse.
    """
    watch = watch or (lambda doing: None)
    figures = _rehearse(config, watch)
    first = figures["first_step"]
    if figures["compiled_anew"]:
        first = _rehearse(config, lambda doing: watch("the first step once more"), "--first-step-only")["first_step"]
    return Probe(
        step_seconds=figures["step"],
        rows=figures["rows"],
        compile_seconds=max(0.0, first - figures["step"]) if figures["compiled"] else 0.0,
        judging_seconds=figures.get("judging", 0.0),
        telling_seconds=figures.get("telling", 0.0),
        saving_seconds=figures["saving"],
        memory_bytes=figures["memory"],
        matmul_flops=figures["peak"],
    )


def _rehearse(config: RunConfig, watch: Watch, *arguments: str) -> dict[str, Any]:
    with tempfile.TemporaryFile() as errors:  # not a pipe: nobody reads it meanwhile
        child = subprocess.Popen([*COMMAND, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            with suppress(BrokenPipeError):  # what ended it comes out below
                child.stdin.write(to_yaml(config).encode())
                child.stdin.close()
            for line in child.stdout:
                said = json.loads(line)
                if "doing" in said:
                    watch(said["doing"])
                elif "error" in said:
                    error = UserError(said["error"])
                    error.exit_code = said["exit_code"]
                    raise error
                else:
                    return said["figures"]
            errors.seek(0)
            raise SetupError(_what_happened(child.wait(), errors.read().decode(errors="replace"), config))
        finally:
            child.kill()
            child.wait()
            child.stdout.close()


def _what_happened(exit_code: int, said: str, config: RunConfig) -> str:
    if exit_code == -9:  # by the kernel, out of memory; nobody else does that unasked
        smaller = next(smaller_batches(config), None)
        advice = f"try {settings_for(config, smaller)}" if smaller else "choose a smaller model"
        return (
            f"the system ended the probe: train.batch_size={config.train.batch_size} takes more memory than there is; "
            f"{advice}, or plan with --no-probe"
        )
    last = said.strip().splitlines()[-1:] or [f"exit code {exit_code}"]
    return f"the probe failed: {last[0]}; plan with --no-probe"
