"""What a person sees of a run, in a terminal and elsewhere."""

import math
import os
import re
import subprocess
import sys
import threading
from io import BytesIO, StringIO, TextIOWrapper

import pytest
from rich.console import Console

from storylm.training.console import ConsoleObserver, RunConsole
from training.told import evaluation_record, step_record

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def elsewhere() -> tuple[ConsoleObserver, StringIO]:
    file = StringIO()
    return ConsoleObserver(Console(file=file, force_terminal=False, width=40, highlight=False)), file


def in_terminal(width: int = 140, encoding: str = "utf-8") -> tuple[ConsoleObserver, TextIOWrapper]:
    file = TextIOWrapper(BytesIO(), encoding=encoding, newline="")
    console = Console(file=file, force_terminal=True, width=width, highlight=False, legacy_windows=False, _environ={})
    return ConsoleObserver(console), file


def raw(file: TextIOWrapper) -> str:
    file.flush()
    return file.buffer.getvalue().decode(file.encoding)  # type: ignore[attr-defined]


def screen(text: str) -> list[str]:
    """The lines that stand on a terminal after `text` was sent to it."""
    lines, row, column = [""], 0, 0
    for token in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", text):
        if token == "\r":
            column = 0
        elif token == "\n":
            row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
        elif token.startswith("\x1b"):
            count = int(re.sub(r"\D", "", token) or 1)
            if token.endswith("A"):
                row = max(0, row - count)
            elif token == "\x1b[2K":
                lines[row] = ""
        else:
            lines[row] = lines[row][:column].ljust(column) + token + lines[row][column + len(token) :]
            column += len(token)
    return [line.rstrip() for line in lines if line.strip()]


def test_a_plain_line_says_how_far_how_good_and_how_long() -> None:
    console, file = elsewhere()
    console.after_step(step_record(1200, steps=5000, progress=0.24, loss=1.8324, lr=9.8e-4, skipped=2))
    # However narrow: a line of a log is never wrapped or cut, and holds no escape codes.
    assert file.getvalue() == (
        "step 1,200/5,000 24% | loss 1.832 | lr 9.8e-04 | 41.2k tok/s | 31% peak | 1.2 GB | 2 skipped\n"
    )


def test_without_a_terminal_a_line_comes_now_and_then_and_the_last_one_always() -> None:
    console, file = elsewhere()
    for step in range(100, 501, 10):  # a second between records
        console.after_step(step_record(step))
    shown = [int(line.split("/")[0].split()[1]) for line in file.getvalue().splitlines()]
    assert shown == [100, 250, 400]  # 15 seconds apart
    console.close()
    assert file.getvalue().splitlines()[3].startswith("step 500/1,000 50% | ")
    console.close()
    assert len(file.getvalue().splitlines()) == 4


def test_validation_is_said_and_then_part_of_the_line() -> None:
    console, file = elsewhere()
    console.after_evaluation(evaluation_record(1000, bits_per_byte=0.7314, perplexity=7.389))
    console.after_evaluation(evaluation_record(2000, bits_per_byte=0.74, perplexity=8, best=False))
    console.after_step(step_record(10))
    assert file.getvalue().splitlines() == [
        "step 1,000: validation 0.731 bits per byte, perplexity 7.39, the best so far",
        "step 2,000: validation 0.740 bits per byte, perplexity 8.00",
        "step 10/1,000 1% | loss 2.500 | validation 0.740 bpb | lr 1.0e-03 | 41.2k tok/s | 31% peak | 1.2 GB",
    ]


def test_samples_are_for_terminals_only() -> None:
    console, file = elsewhere()
    console.after_sample(1, "Once.")
    assert file.getvalue() == ""


@pytest.mark.parametrize(
    ("first", "newest", "left"),
    [
        # Compiling took 300 s before the first record; since then a tenth of the run took 60 s: 480 s for 0.8.
        ((0.1, 300.0), (0.2, 360.0), "8:00"),
        ((0.0, 0.0), (0.5, 4000.0), "1:06:40"),
        ((0.0, 0.0), (0.999, 59.4), "0:00"),
        ((0.9, 1000.0), (0.95, 1059.6), "1:00"),
        ((0.5, 10.0), (1.0, 20.0), "0:00"),
    ],
)
def test_the_time_left_is_by_the_speed_since_the_first_record(first, newest, left) -> None:
    console, file = elsewhere()
    for step, (progress, seconds) in enumerate((first, newest), 1):
        console.after_step(step_record(step, progress=progress, seconds=seconds))
    console.close()
    lines = file.getvalue().splitlines()
    assert "left" not in lines[0]
    assert lines[-1].endswith(f" | {left} left")


def test_a_run_by_the_clock_has_no_planned_steps_and_speeds_have_units() -> None:
    console, file = elsewhere()
    for number, speed in enumerate([999.4, 1000, 2_345_678]):
        record = step_record(1, steps=None, progress=0.5, tokens_per_second=speed, seconds=20.0 * number)
        console.after_step(record)
    lines = [line.split(" | ") for line in file.getvalue().splitlines()]
    assert [line[0] for line in lines] == ["step 1 50%"] * 3
    assert [line[3] for line in lines] == ["999 tok/s", "1.0k tok/s", "2.3M tok/s"]


def test_in_a_terminal_one_line_is_renewed_and_the_rest_stays_above_it() -> None:
    console, file = in_terminal()
    threads = threading.active_count()
    for step in (100, 200, 300):
        console.after_step(step_record(step, loss=3 - step / 100))
    assert threading.active_count() == threads
    console.after_evaluation(evaluation_record(300))
    console.after_sample(300, "Once upon\n\na [bold]time[/bold]")
    console.after_step(step_record(400, loss=1.5))
    console.close()
    console.close()
    assert screen(raw(file)) == [
        "step 300: validation 0.731 bits per byte, perplexity 7.39, the best so far",
        "Once upon a [bold]time[/bold]",
        "step 400/1,000 40% · loss 1.500 █▅▁▆ · validation 0.731 bpb · lr 1.0e-03 · 41.2k tok/s · 31% peak · 1.2 GB "
        "· 1:00 left",
    ]
    assert "step 100/1,000" in raw(file)  # shown at once
    assert "\x1b[?25h" in raw(file)  # the cursor is given back


def test_the_live_line_never_takes_two() -> None:
    console, file = in_terminal(width=30)
    console.after_step(step_record(100))
    console.after_step(step_record(200))
    console.after_sample(200, "A story that is longer than the screen is wide.")
    console.close()
    lines = screen(raw(file))
    assert [line[:8] for line in lines] == ["A story ", "step 200"]
    assert all(len(line) <= 30 and line.endswith("…") for line in lines)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_terminal_that_lacks_the_characters_is_not_sent_them(encoding) -> None:
    console, file = in_terminal(encoding=encoding)
    console.after_step(step_record(100))
    console.after_sample(100, "A 🐻.")
    console.message("in '…/Geschichten/Bär🐻'")
    console.close()
    lines = screen(raw(file))
    assert lines[0] == "A ?."
    assert lines[1].startswith("in '") and lines[1].endswith("r?'")  # noqa: PT018
    assert lines[2] == "step 100/1,000 10% | loss 2.500 | lr 1.0e-03 | 41.2k tok/s | 31% peak | 1.2 GB"


def test_a_message_is_no_markup() -> None:
    console, file = elsewhere()
    console.message("train.sample_prompts=[/Once] :bear: " + "x" * 60)
    assert file.getvalue() == "train.sample_prompts=[/Once] :bear: " + "x" * 60 + "\n"


PROGRAM = """
import sys
from rich.console import Console
from storylm.training.console import ConsoleObserver, RunConsole
from training.told import step_record
console = ConsoleObserver(RunConsole(force_terminal=sys.argv[1] == "terminal", highlight=False))
sys.stdin.readline()
for step in range(100):
    console.after_step(step_record(step, seconds=20.0 * step))
    console.message("x" * 2000)
console.close()
print("what others print", flush=True)
print("trained to the end", file=sys.stderr)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no broken pipes")
@pytest.mark.parametrize("kind", ["terminal", "pipe"])
def test_a_run_goes_on_when_nobody_reads_any_more(kind) -> None:
    """As after `storylm train ... | head`."""
    child = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, kind],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stderr is not None
    child.stdout.close()
    child.stdin.write("go\n")
    child.stdin.close()
    said = child.stderr.read()
    child.stderr.close()
    assert (child.wait(30), said) == (0, "trained to the end\n")


def test_the_console_of_a_run_bears_broken_pipes() -> None:
    assert isinstance(ConsoleObserver().console, RunConsole)


def test_losses_that_are_not_finite_are_shown_as_such() -> None:
    console, file = in_terminal()
    console.after_step(step_record(1, loss=math.nan))
    console.after_step(step_record(2, loss=math.inf))
    console.close()
    assert [line.split(" · ")[1].strip() for line in screen(raw(file))] == ["loss inf"]
