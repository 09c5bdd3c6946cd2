"""What each reliability test does, in its two sizes, and the words for what it found."""

from dataclasses import dataclass

import pytest

SEED = 2305


@dataclass(frozen=True)
class Row:
    """A line of the table. `result` is filled in with the figures of the full test, called `count` and as it tells."""

    title: str
    design: str
    fast: int
    full: int
    result: str


ROWS: dict[str, Row] = {
    "kill": Row(
        "kill -9 in training",
        "a run of two epochs with dropout, killed at random moments and file operations, started again each time",
        6,
        100,
        "{count} kills, {in_save} of them inside a save: {lost} checkpoints lost; weights, optimizer, samples and "
        "{logged} logged lines identical to the uninterrupted run in {identical} of {runs} runs",
    ),
    "save": Row(
        "kill -9 inside a save",
        "a large state saved again and again, killed while it is; the control saves in place, as a script would",
        4,
        30,
        "{count} kills inside a save of {megabytes} MB: {lost} lost; in-place control: {control_lost} of {count} lost",
    ),
    "fault": Row(
        "every write, fsync and rename fails once",
        "input/output error at the n-th operation of a run, for each n; then the same command again",
        6,
        0,
        "{count} operations failed in turn: {told} ended the run with one clear line, {borne} did not end it; "
        "{identical} of {count} identical to the uninterrupted run afterwards",
    ),
    "edge": Row(
        "resumed twice, at an epoch's edge",
        "stopped just before, at and just after the edge of the first epoch and again at that of the second",
        1,
        12,
        "{count} runs, each stopped twice: the same rows in the same order, identical to the end, in {identical}",
    ),
    "ranks": Row(
        "2 and 4 processes",
        "DDP and FSDP over gloo, packed, padded and separated stories, against one process with the same rows a step",
        0,
        12,
        "{count} runs: the same rows in every step in {same_rows}; losses and gradient norms within {furthest:.0e}",
    ),
    "killed": Row(
        "one of two processes killed",
        "kill -9 in a random step under torchrun, which starts both again; DDP and FSDP in turn, with dropout",
        1,
        10,
        "{count} kills: identical to the undisturbed run on two processes in {identical}",
    ),
    "stop": Row(
        "SIGTERM, Ctrl-C",
        "at random moments and file operations of a run, both signals in turn",
        4,
        50,
        "{count} stops: saved and gone after at most {cpu:.2f} s of CPU time, {lost} steps lost, exit "
        "code 130 (143 after SIGTERM), the resume command printed; {identical} of {runs} runs identical",
    ),
    "insist": Row(
        "a second Ctrl-C",
        "during an update that never ends",
        1,
        5,
        "{count} of {count} gone at once with exit code 130, the checkpoint before it whole, identical when resumed",
    ),
    "full": Row(
        "disk full: largest file limited",
        "RLIMIT_FSIZE of a random size, from an update on",
        1,
        20,
        "{count} of {count} ended with one line that names the place, exit code 4, the checkpoint before it whole; "
        "identical after room was made",
    ),
    "tmpfs": Row(
        "disk full: small file system",
        "a tmpfs with a random rest of room, from an update on (needs root)",
        0,
        20,
        "{count} of {count} ended with one line that names the place, exit code 4, the checkpoint before it whole; "
        "identical after room was made",
    ),
    "rot": Row(
        "bit rot",
        "random flipped bits and truncations in a checkpoint of a real run",
        40,
        1000,
        "{count:,} damages ({flips} flips, {cuts} truncations): {detected:,} detected, each told loudly and answered "
        "by the checkpoint before it",
    ),
    "numbers": Row(
        "NaN, inf and loss spikes",
        "in the loss or a gradient of random steps, a checkpoint after every step",
        2,
        60,
        "{count} runs with {bad} bad updates: {skipped} skipped and counted, {poisoned} poisoned checkpoints, all runs "
        "finished; after a spike of 10^6 the final loss is within {spike:.2%}",
    ),
    "broken": Row(
        "weights that break",
        "one set to NaN in mid-run, or all thrown out of range by the learning rate",
        3,
        40,
        "{count} of {count} stopped with a report, at the next look at the weights or after max_bad_steps; {poisoned} "
        "poisoned checkpoints",
    ),
    "dirty": Row(
        "dirty data",
        "mojibake, bad UTF-8, BOM, CRLF, NUL, lone surrogates, empty, 10 MB, null, wrong types, truncated, traversal; "
        "then random damage to files of every format",
        20,
        2000,
        "{kinds} kinds counted each with its reason, none became a control token, nothing was written outside; "
        "{count:,} randomly damaged files: {crashes} crashes, {told:,} with their problems counted, {whole} still "
        "readable",
    ),
    "repeat": Row(
        "determinism",
        "the same seed in new interpreters, each with another hash seed and working folder",
        2,
        5,
        "{count} runs of {kinds} kinds on {threads} threads: identical",
    ),
    "streams": Row(
        "server: streams at the same time",
        "as many requests for a stream of 32 tokens at once, each with a seed of its own",
        40,
        1000,
        "{count:,} streams: {complete:,} complete, {wrong} told another story than `generate`; {rate:,.0f} tokens/s",
    ),
    "flood": Row(
        "server: more than it takes",
        "as many requests at once: small ones, streams, four stories with 20 alternatives to each token, and bodies of "
        "200 KB that do not fit the model; /health asked all the while",
        200,
        4000,
        "{count:,} at once: {taken:,} answered, {unfit:,} told that they do not fit, {turned_away:,} turned away with "
        "429 and `Retry-After`, {other} with anything else; /health within {longest:,.0f} ms at the most; "
        "{megabytes:.0f} MB more memory at the most",
    ),
    "gone": Row(
        "server: clients that go away",
        "from two stories of 1,000 tokens that do not end by themselves: after the first piece of a stream, or before",
        20,
        1000,
        "{count:,} disconnects: {leaked} slots leaked; {tokens:.0f} of 2,000 tokens told; the next story is as ever",
    ),
    "slow": Row(
        "server: slow headers",
        "connections that send a header a byte at a time and never end it, and /health asked all the while",
        30,
        500,
        "{count} sockets: closed after {stayed:.0f} s at the most; /health within {p99:.0f} ms in 99 of 100 "
        "(median {median:.0f} ms)",
    ),
    "fuzz": Row(
        "server: requests by its OpenAPI description",
        "schemathesis: valid and broken, for every operation",
        60,
        50_000,
        "{count:,} requests: no 5xx, no status that is not documented",
    ),
}


def sizes(name: str) -> pytest.MarkDecorator:
    """Parametrises a test with its `count`: small in `make test`, as promised in `make test-all`."""
    row = ROWS[name]
    both = [pytest.param(row.fast, id="fast")] if row.fast else []
    return pytest.mark.parametrize("count", [*both, pytest.param(row.full, id="full", marks=pytest.mark.slow)])
