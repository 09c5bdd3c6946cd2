"""Preparing twenty times as many stories takes no more memory, but for what finding duplicates has to remember."""

import subprocess
import sys

import pytest

SCRIPT = """
import sys
from storylm.config.schema import CleaningConfig
from storylm.data.prepare import prepare
from storylm.data.preparing import steps
stories, chunk, near, out = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "near", sys.argv[4]
steps.CHUNK_BYTES = chunk
cleaning = CleaningConfig(near_duplicates=near, overlap=near)
prepare(f"grammar?stories={stories}&validation=100", "bytes", out, cleaning, workers=1)
with open("/proc/self/status") as status:  # not getrusage: it counts the process that this one was started from
    (peak,) = (line.split()[1] for line in status if line.startswith("VmHWM"))
print(1024 * int(peak))
"""
EXACT_BYTES = 24  # a story: its hash and verdict
NEAR_BYTES = 250  # a story: its signature and 18 tables, too
SLACK_BYTES = 8 * 2**20  # of the allocator, and of shards being mapped

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the peak of one process")


def peak(stories: int, chunk: int, near: str, out) -> int:
    """Peak resident bytes of the process that prepares so many stories of the grammar, all stages in it."""
    command = [sys.executable, "-c", SCRIPT, stories, chunk, near, out / str(stories)]
    return int(subprocess.run([*map(str, command)], capture_output=True, text=True, check=True).stdout)


@pytest.mark.parametrize(
    ("stories", "chunk", "near", "a_story"),
    [
        (1_000, 2**18, "exact", EXACT_BYTES),
        pytest.param(20_000, 2**23, "exact", EXACT_BYTES, marks=pytest.mark.slow),
        pytest.param(20_000, 2**23, "near", NEAR_BYTES, marks=pytest.mark.slow),
    ],
)
def test_twenty_times_the_stories(tmp_path, stories, chunk, near, a_story):
    small, large = (peak(count, chunk, near, tmp_path) for count in (stories, 20 * stories))
    assert large - small <= 19 * stories * a_story + SLACK_BYTES
