"""kill -9 at any moment, of a worker or of the whole preparation, leaves no story missing and none twice."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data.corpora_on_disk import contents, corpus_of

SCRIPT = """
import sys
from storylm.data.prepare import prepare
from storylm.data.preparing import steps
steps.CHUNK_BYTES = 3000
from storylm.config.errors import SetupError
try:
    prepare(sys.argv[1], "bpe", sys.argv[2], vocab_size=300, workers=2)
except SetupError as error:
    sys.exit(str(error))
"""

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="looks for processes in /proc")


def start(corpus: Path, out: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", SCRIPT, corpus, out], text=True, stderr=subprocess.PIPE)


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    """The processes that a preparation has started to do tasks."""
    try:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        return [int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    except (FileNotFoundError, ProcessLookupError):  # gone meanwhile
        return []


def done(out: Path) -> int:
    """How many files stand that a preparation goes on with."""
    return len([*out.glob(".work/parts/0*/part.json"), *out.glob(".work/encoded/*.json")])


def kill_one(process: subprocess.Popen[str], out: Path, chance: random.Random) -> str:
    """Wait until there is something new, and a little longer, and kill. What: nothing where all was done before."""
    before, extra = done(out), chance.randrange(3)
    while process.poll() is None and done(out) <= before + extra:
        time.sleep(0.002)
    time.sleep(chance.uniform(0, 0.03))
    workers = workers_of(process)
    if process.poll() is not None:
        return ""
    victim = chance.choice([process.pid, *workers, *workers])
    os.kill(victim, signal.SIGKILL)
    return "all" if victim == process.pid else "a worker"


@pytest.mark.parametrize(
    ("kills", "files"), [(8, 6), pytest.param(50, 40, marks=pytest.mark.slow)], ids=lambda number: str(number)
)
def test_killed_again_and_again_the_bytes_are_the_same(tmp_path, kills, files):
    corpus = corpus_of(tmp_path / "corpus", files=files, stories=60)
    assert start(corpus, tmp_path / "whole").communicate()[1] == ""
    out, chance = tmp_path / "out", random.Random(kills)
    killed: list[str] = []
    for _ in range(8 * kills):
        process = start(corpus, out)
        if victim := kill_one(process, out, chance):
            killed.append(victim)
        told = process.communicate(timeout=120)[1]
        if process.returncode and victim == "a worker":
            assert "a worker process died" in told
        elif not process.returncode:  # done before it could be killed as often as asked: begin another
            assert contents(out) == contents(tmp_path / "whole")
            shutil.rmtree(out)
        if len(killed) == kills:
            break
    assert len(killed) == kills
    assert {"all", "a worker"} <= set(killed)
    last = start(corpus, out)
    assert last.communicate(timeout=120)[1] == ""
    assert contents(out) == contents(tmp_path / "whole")
