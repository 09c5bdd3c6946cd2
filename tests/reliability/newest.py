"""Which checkpoints of a run are intact, found without the code that finds them in earnest."""

from pathlib import Path

from storylm.training.seal import damage, read_seal


def newest_intact(run: Path) -> int:
    """The highest step of an intact checkpoint, under whatever name; 0 where there is none."""
    folders = [path for path in (run / "checkpoints").glob("*") if path.is_dir()]
    seals = [read_seal(folder) for folder in folders if damage(folder) is None]
    return max((seal["step"] for seal in seals if seal is not None), default=0)
