"""What each system makes of the same text in the same minutes, judged alike.

    python benchmarks/equal_work.py                          all of them, ten minutes each
    python benchmarks/equal_work.py story-1m nanogpt         some; the others' results stay in the file
    python benchmarks/equal_work.py --keep runs/equal-work   and the runs of storylm are kept in that folder
    python benchmarks/equal_work.py --passes 0.5             half of the text for each, however long that takes

The real stories of STORYLM_SHARED, one run after another, each in a process of its own. The clock counts everything
from the start of the process, with empty caches; for storylm also preparing the stories and saving, for the others not.
A tokenizer of one's own is trained before. A result is kept: the same command goes on where it was stopped; `--again`
measures anew. Figures of another machine are not to be compared: there, name another --output. On a machine that is
virtual each result says how much of the time its host gave to others. With --passes there is no clock: what counts is
the text alone, so only what storylm trains takes part, and neither machine nor engine matters.

Judged are all tokens of the validation stories, each once; of stories longer than a model's context the rest in windows
that move by half of it, so that models with short contexts have to tell long stories to their end, too.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peers.data import SHARED, configured, sources, write_tokens
from peers.kept import keep, read
from peers.machine import Stolen, commit, cores, machine, other_machine, versions
from peers.rounds import BENCHMARKS, PATIENCE, Measured, run_module
from peers.said import last_words
from peers.turn import Turn
from rich.console import Console

import storylm
from storylm.config.errors import SetupError, UserError
from storylm.config.files import write_text
from storylm.config.load import apply_overrides, to_yaml
from storylm.config.schema import RunConfig
from storylm.evaluation.corpus import Corpus
from storylm.model.count import parameters
from storylm.training.device import pick_precision
from storylm.training.heat import SETTINGS
from storylm.training.run_folder import portable_settings
from storylm.training.speedrun import Speedrun

DATA = SHARED / "data" / "tinystories-train.txt.xz"
VALIDATION = SHARED / "data" / "tinystories-valid.txt.xz"
HEAT = "heat-0/run"
MUCH = 0.05  # of the processors' time: what more takes from a run, it shows in its figure
PROMPT = "Once upon a time, there was"
OURS, FAITHFUL, PEERS = "storylm's own recipes", "published shapes, trained by storylm", "other programs"
COLOURS = {OURS: "tab:blue", FAITHFUL: "lightsteelblue", PEERS: "tab:gray"}

# What was published for days on a GPU, scaled to minutes: fewer rows a step where there would be a dozen steps, and a
# warm-up of a tenth of the time, so that whoever makes fewer steps does not spend more of them in it.
SHORT_WARMUP = "optim.warmup_share=0.1"
XS_3M_8_ROWS = ("train.batch_size=8", SHORT_WARMUP, "optim.lr=3e-3")
GPT2_33M = ("train.batch_size=8", "train.accumulation=1", SHORT_WARMUP)
WORD_20M = ("train.batch_size=16",)
CS336_17M = ("train.batch_size=16", SHORT_WARMUP)
SIMPLE_5M = ("train.batch_size=8", SHORT_WARMUP, "optim.lr=3e-3")
# A loop like nanoGPT's in the shape that two minutes were found best in, at the best of four learning rates (LOG.md).
NANOGPT = (
    "model.vocab_size=4096",
    "model.context=256",
    "model.layers=4",
    "model.width=128",
    "model.heads=4",
    "model.ff_width=512",
    "model.activation=gelu",
    "model.dropout=0",
    "train.batch_size=16",
    "train.accumulation=1",
    "optim.clip=1.0",
    "optim.warmup_steps=100",
)


@dataclass(frozen=True)
class Entry:
    """A system: a preset and what is changed of it, trained by `trainer` (storylm, plain or one of the Trainer's).

    With `text_only` it takes part only where there is no clock.
    """

    name: str
    what: str
    preset: str
    overrides: tuple[str, ...] = ()
    trainer: str = "storylm"
    own_tokenizer: bool = False
    text_only: bool = False


def faithful(preset: str, published: str, ours: str, *scaled: str) -> list[Entry]:
    """A published system twice: with its own learning rate and with ours, all else alike."""
    return [
        Entry(f"{preset}, {rate}", f"learning rate {rate}, {whose}", preset, (*scaled, f"optim.lr={rate}"))
        for rate, whose in ((published, "as published"), (ours, "ours"))
    ]


ENTRIES = [
    Entry("story-1m", "storylm's own", "story-1m"),
    Entry("story-5m", "storylm's own", "story-5m"),
    Entry("story-15m", "storylm's own", "story-15m"),
    Entry("story-33m", "storylm's own", "story-33m", text_only=True),
    Entry(
        "nanogpt", "a loop like nanoGPT's, fp32, AdamW at 8e-3", "gpt2-33m", (*NANOGPT, "optim.lr=8e-3"), "plain", True
    ),
    *faithful("xs-3m", "5e-4", "3e-3", SHORT_WARMUP),
    *faithful("gpt2-33m", "1e-4", "1e-3", *GPT2_33M),
    Entry("gpt2-33m, Trainer", "transformers' Trainer, bf16, 1e-4 as published", "gpt2-33m", GPT2_33M, "trainer-bf16"),
    Entry(
        "gpt2-33m, Trainer, 1e-3",
        "transformers' Trainer, bf16, compiled, 1e-3",
        "gpt2-33m",
        (*GPT2_33M, "optim.lr=1e-3"),
        "trainer-bf16-compile",
    ),
    *faithful("word-20m", "1e-4", "1e-3", *WORD_20M),
    *faithful("nano-22m", "6e-4", "2e-3"),
    *faithful("mistral-40m", "2e-5", "1e-3"),
    Entry("mistral-40m, Trainer", "transformers' Trainer, bf16, 2e-5 as published", "mistral-40m", (), "trainer-bf16"),
    Entry("xs-3m, 3e-3, 8 rows", "learning rate 3e-3, ours, and 8 rows", "xs-3m", XS_3M_8_ROWS, text_only=True),
    Entry("cs336-17m", "CS336's, learning rate 2e-3, ours", "cs336-17m", CS336_17M, text_only=True),
    Entry("simple-5m", "SimpleStories', learning rate 3e-3, ours", "simple-5m", SIMPLE_5M, text_only=True),
]
# What peers train with, whatever the preset says that gives them their shape, rows and rates.
USED = {
    "plain": {"optim.optimizer": "adamw", "train.precision": "fp32", "train.compile": "off"},
    "trainer-bf16": {"optim.optimizer": "adamw_torch_fused", "train.precision": "bf16", "train.compile": "off"},
    "trainer-bf16-compile": {"optim.optimizer": "adamw_torch_fused", "train.precision": "bf16", "train.compile": "on"},
}


def overrides_of(entry: Entry, options: argparse.Namespace) -> tuple[str, ...]:
    """All that is changed of the entry's preset, with the stories and how long."""
    tokenizer = ["tokenizer=bpe"] if entry.own_tokenizer else []
    stories = [*sources(entry.preset, options.data), *tokenizer, f"data.validation={options.validation}"]
    length = f"train.epochs={options.passes}" if options.passes else f"train.minutes={options.minutes}"
    return (*entry.overrides, *stories, length, *options.set)


def train_ours(config: RunConfig, folder: Path) -> tuple[Path, Measured]:
    """A heat of a speedrun, or `storylm train` where there is no clock: the model's folder, and what it took."""
    if config.train.minutes is None:
        return train_passes(config, folder)
    heat = Speedrun(config, folder).heat(0, lambda model: 0.0)
    return folder / HEAT / "checkpoints/last", {key: getattr(heat, key) for key in ("seconds", "steps", "tokens")}


def train_passes(config: RunConfig, folder: Path) -> tuple[Path, Measured]:
    """`storylm train` in a process of its own, which looks at nothing by the way."""
    write_text(recipe := folder / "recipe.yaml", to_yaml(apply_overrides(config, SETTINGS)))
    command = [sys.executable, "-m", "storylm", "train", "--config", str(recipe), "--out", str(folder / HEAT)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SetupError(last_words(done.stderr))
    model = folder / HEAT / "checkpoints/last"
    state = json.loads((model / "trainer_state.json").read_text(encoding="utf-8"))["values"]["state"]
    return model, {"steps": state["step"], "tokens": state["tokens"]}


def train_theirs(turn: Turn, config: RunConfig) -> tuple[Path, Measured]:
    """A peer's whole run: the model's folder, and what it took."""
    folder = Path(turn.folder)
    folder.mkdir(parents=True)
    write_tokens(config, Path(turn.tokens))
    turn.write(folder / "turn.json")
    given = [str(folder / "turn.json"), str(time.monotonic())]
    empty = {"TORCHINDUCTOR_CACHE_DIR": str(folder / "compiled")}
    done = run_module("peers.whole", given, folder / "result.json", cores(), turn.seconds + PATIENCE, **empty)
    return folder / "model", done


def judged(model: Path, corpus: Corpus) -> Measured:
    """Bits per byte of all the stories, and a story."""
    network, tokenizer = storylm.load(model)
    assert tokenizer is not None  # every contender saves its own
    likelihood = storylm.evaluate(network, tokenizer, corpus, stride=network.config.context // 2)
    told = storylm.generate(network, tokenizer, PROMPT, max_new_tokens=100, temperature=0.8, seed=1)[0]
    return {
        "parameters": parameters(network.config),
        "context": network.config.context,
        "bits_per_byte": round(likelihood.bits_per_byte, 4),
        "nats_per_token": round(likelihood.nats_per_token, 4),
        "story": told,
    }


def run_of(entry: Entry, options: argparse.Namespace) -> RunConfig:
    """The settings of the entry's run."""
    return configured(entry.preset, list(overrides_of(entry, options)))


def settings_of(entry: Entry, options: argparse.Namespace) -> dict[str, Any]:
    """All that decides what comes of it; files by their names."""
    settings = portable_settings(run_of(entry, options)) | USED.get(entry.trainer, {})
    return {key: value for key, value in settings.items() if key != "about"}


def measure(entry: Entry, options: argparse.Namespace, folder: Path, corpus: Corpus) -> Measured:
    """Train and judge one entry; what it is and what it came to, or "failed" with the reason."""
    config, settings, stolen = run_of(entry, options), settings_of(entry, options), Stolen()
    about: Measured = {
        "name": entry.name,
        "what": entry.what,
        "preset": entry.preset,
        "trainer": entry.trainer,
        "settings": settings,
        "precision": pick_precision(settings["train.precision"], torch.device("cpu")),
        "commit": commit(),
        "machine": machine("cpu"),
        "versions": versions(),
    }
    if entry.trainer == "storylm":
        try:
            model, done = train_ours(config, folder)
        except UserError as error:
            return about | {"failed": str(error)}
    else:
        tokens, seconds = str(folder / "train.bin"), 60 * options.minutes
        turn = Turn(entry.trainer, entry.preset, overrides_of(entry, options), tokens, str(folder), seconds=seconds)
        model, done = train_theirs(turn, config)
    if "failed" in done:
        return about | done
    if (share := stolen.share()) is not None:
        done["stolen"] = round(share, 3)
    return about | done | judged(model, corpus)


def draw(entries: Measured, length: str, path: Path) -> None:
    """A bar for each result, the best on top, coloured by kind."""
    from matplotlib.figure import Figure

    rows = sorted((row for row in entries.values() if "failed" not in row), key=lambda row: row["bits_per_byte"])
    figure = Figure((8, 1 + 0.3 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for kind, colour in COLOURS.items():
        of = [place for place, row in enumerate(rows) if kind_of(row) == kind]
        bars = axes.barh(of, [rows[place]["bits_per_byte"] for place in of], color=colour, label=kind)
        axes.bar_label(bars, fmt="%.3f", padding=3, fontsize=8)
    axes.set_yticks(range(len(rows)), [row["name"] for row in rows], fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.1)
    axes.set_xlabel(f"bits per byte after {length} (less is better)")
    axes.legend(loc="upper right")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def kind_of(row: Measured) -> str:
    """Whose recipe, and who trained."""
    if row["trainer"] != "storylm":
        return PEERS
    return OURS if row["preset"].startswith("story-") else FAITHFUL


def takes_part(entry: Entry, passes: float | None) -> bool:
    """Whether so many passes of the text, or the clock where it is None, are for this entry."""
    return not entry.text_only if passes is None else entry.trainer == "storylm"


def positive(given: str) -> float:
    """A number above 0, for argparse."""
    if not (number := float(given)) > 0:
        raise ValueError(given)
    return number


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [entry.name for entry in ENTRIES]
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help=f"of {'; '.join(names)} (default: all)")
    add("--minutes", type=positive, default=10.0)
    add("--passes", type=positive, help="over the stories, instead of minutes")
    add("--data", default=str(DATA), help="stories to train on")
    add("--validation", default=str(VALIDATION), help="stories to judge by")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of all presets")
    add("--again", action="store_true", help="also what has been measured")
    add("--keep", type=Path, metavar="FOLDER", help="where storylm's runs are kept (default: nowhere)")
    add("--plot", type=Path, metavar="PNG", help="draw the results there (needs storylm[report])")
    add(
        "--output",
        type=Path,
        help="(default: equal-work.json or, with --passes, equal-text.json in benchmarks/results)",
    )
    options = parser.parse_args(given)
    if unknown := [name for name in options.names if name not in names]:
        parser.error(f"unknown name {unknown[0]!r}: there are {'; '.join(names)}")
    names = [entry.name for entry in ENTRIES if takes_part(entry, options.passes)]
    if absent := [name for name in options.names if name not in names]:
        way = "against the clock: leave out --passes" if options.passes else "without a clock: give --passes"
        parser.error(f"{absent[0]!r} takes part only {way}")
    options.names = options.names or names
    usual = "equal-text.json" if options.passes else "equal-work.json"
    options.output = options.output or BENCHMARKS / "results" / usual
    return options


def main(given: list[str] | None = None) -> int:
    """Measure, write and print."""
    options, console = arguments(given), Console(stderr=True, highlight=False)
    results = read(options.output, "entries")
    length = f"{options.passes:g} passes" if options.passes else f"{options.minutes:g} minutes"
    what = f"bits per byte after {length}"
    has = results.get("what", what)
    if options.passes is None and other_machine(results["entries"].values()):
        has = "results of another machine"
    if has != what:
        console.print(f"{options.output} has {has}: name another --output")
        return 2
    corpus = Corpus(options.validation)
    wanted = [entry for entry in ENTRIES if entry.name in options.names]
    for entry in wanted:
        row = results["entries"].get(entry.name, {})
        if not options.again and "failed" not in row and row.get("settings") == settings_of(entry, options):
            continue
        with tempfile.TemporaryDirectory(prefix="storylm-bench-") as place:
            os.environ["STORYLM_CACHE"] = str(Path(place) / "cache")
            row = measure(entry, options, folder := Path(place) / "run", corpus)
            if options.keep and entry.trainer == "storylm" and "failed" not in row:
                shutil.copytree(folder / HEAT, options.keep / entry.name.replace(", ", "-"), dirs_exist_ok=True)
        results = keep(options.output, "entries", entry.name, row, what=what)
        console.print(f"{entry.name}: {row.get('failed') or row['bits_per_byte']}")
        if options.passes is None and row.get("stolen", 0) > MUCH:
            console.print(
                f"{row['stolen']:.0%} of the time was other machines' of this host: measure again, with --again"
            )
    if options.plot:
        draw(results["entries"], length, options.plot)
    return int(any("failed" in row for row in results["entries"].values()))


if __name__ == "__main__":
    sys.exit(main())
