"""A run stopped and resumed twice around the edges of its epochs sees the same rows in the same order."""

from collections.abc import Callable
from hashlib import sha256
from itertools import product
from pathlib import Path
from unittest.mock import patch

from reliability.rows import SEED, sizes
from storylm.config.load import apply_overrides
from storylm.config.schema import RunConfig
from storylm.training.learner import Learner
from storylm.training.run import train_run
from training.runs import interrupt, record_of

KINDS = ((), ("data.layout=padded",), ("data.separate_stories=true", "train.accumulation=2", "train.batch_size=16"))
ALONE = ("train.epochs=3", "train.eval_every=0", "train.sample_every=0")  # nothing but updates and stops
AROUND = (0, 1, 2, -1)  # updates after the last whole one of an epoch; its last row is in the one after that


def run(config: RunConfig, folder: Path, stop_at: int | None = None) -> list[str]:
    """Train on, with Ctrl-C during update number `stop_at` of the run; the hashes of the batches of each update."""
    seen: list[str] = []
    update = Learner.update

    def watched(self, batches, *arguments, **options):
        seen.append(sha256(b"".join(batch.tokens_BT.numpy().tobytes() for batch in batches)).hexdigest())
        if len(seen) == stop_at:
            interrupt()
        return update(self, batches, *arguments, **options)

    with patch.object(Learner, "update", watched):
        train_run(config, folder)
    return seen


@sizes("edge")
def test_edge(count: int, two_epochs: RunConfig, tmp_path: Path, figures: Callable[..., None]) -> None:
    identical = 0
    undisturbed: dict[tuple, tuple[list[str], dict]] = {}
    for number, (around, kind) in enumerate(list(product(AROUND, KINDS))[:count]):
        config = apply_overrides(two_epochs, [*kind, *ALONE, f"train.seed={SEED}"])
        if kind not in undisturbed:
            folder = tmp_path / f"undisturbed-{len(undisturbed)}"
            undisturbed[kind] = run(config, folder), record_of(folder)
        whole, record = undisturbed[kind]
        epoch, folder = len(whole) // 3, tmp_path / str(number)
        seen = run(config, folder, epoch + around)  # the first epoch's edge
        seen += run(config, folder, epoch)  # the second's
        assert len(seen) == 2 * epoch + around
        seen += run(config, folder)
        identical += seen == whole and record_of(folder) == record
    assert identical == count
    figures("edge", count, identical=identical)
