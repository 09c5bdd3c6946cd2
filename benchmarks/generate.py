"""How fast storylm and its peers decode with the same model, side by side.

    python benchmarks/generate.py                        llama2c-15m, gpt2-33m and story-5m, batches of 1 and 32
    python benchmarks/generate.py story-5m --batches 1   one of them; the others' results stay in the file
    python benchmarks/generate.py --llama2c DIR          with `run` and `runq` of llama2.c, which lie in DIR
    python benchmarks/generate.py --device cuda          storylm and transformers on a GPU

Random weights, the same for all; prompts of 16 random tokens, 256 new ones after each, the likeliest always, no end of
the story. Contenders: storylm in fp32, bf16 and int8; `generate` of transformers; llama.cpp by its own functions, from
storylm's GGUF export; CTranslate2; each with as many threads as there are cores, and in a process of its own. They come
in rounds, A B C A B C. A turn's speed is that of its median lap (reading the prompt included), a contender's the median
of its turns; ratios are taken within a round. `limit` is the share of what the machine's memory allows: every weight is
read once for a step, at the speed at which PyTorch sums up as many bytes.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path
from statistics import median
from typing import Any

import torch
from peers.data import SHARED
from peers.machine import commit, cores, machine, versions
from peers.rounds import BENCHMARKS, Measured, run_module, spread
from peers.said import last_words
from peers.tellers import CT2, GGUF, LLAMA2C, WORDS
from rich.console import Console

import storylm
from storylm.config.files import write_text
from storylm.config.load import preset
from storylm.data.grammar import stories
from storylm.model.count import parameters
from storylm.model.transformer import Transformer
from storylm.text.tokenizer import Tokenizer
from storylm.text.training import train_bpe

SHAPES = ("llama2c-15m", "gpt2-33m", "story-5m")
PROMPT, NEW = 16, 256
BASELINES = {1: ("llama.cpp-q8_0", "transformers-fp32"), 32: ("ctranslate2-int8", "transformers-fp32")}
OURS = ("storylm-fp32", "storylm-bf16", "storylm-int8")
PEERS = {
    "cpu": ("transformers-fp32", "transformers-bf16", "llama.cpp-q8_0", "llama.cpp-f16", "ctranslate2-int8"),
    "cuda": ("transformers-fp32", "transformers-bf16"),
}
BYTES = {"fp32": 4, "f16": 2, "bf16": 2, "int8": 1, "q8_0": 34 / 32}
PACKAGES = ("torch", "transformers", "llama_cpp_python", "ctranslate2")


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("shapes", nargs="*", metavar="PRESET", default=list(SHAPES))
    add("--batches", type=int, nargs="+", default=[1, 32])
    add("--device", choices=("cpu", "cuda"), default="cpu")
    add("--new", type=int, default=NEW, help=f"tokens after each prompt (default {NEW})")
    add("--rounds", type=int, default=3)
    add("--laps", type=int, default=3, help="timed laps of a turn, at least")
    add("--seconds", type=float, default=3.0, help="timed seconds of a turn, at least")
    add("--threads", type=int, default=cores())
    add("--only", help="contenders, comma-separated, instead of all")
    add("--llama2c", type=Path, metavar="DIR", help="where `run` and `runq` are")
    add("--output", type=Path, help="JSON (default: benchmarks/results/generate-cpu.json or generate-gpu.json)")
    options = parser.parse_args(given)
    options.output = options.output or BENCHMARKS / "results" / f"generate-{options.device.replace('cuda', 'gpu')}.json"
    return options


def contenders(options: argparse.Namespace, name: str, batch: int) -> list[str]:
    """Their names, in the order of their turns."""
    if options.only:
        return options.only.split(",")
    family = preset(name).model.family
    llama2c = ("llama2.c-fp32", "llama2.c-int8") if options.llama2c and batch == 1 and family == "llama" else ()
    return [*OURS, *PEERS[options.device], *llama2c]


def tokenizer_for(name: str) -> Tokenizer:
    """The published one where it is here; else, and for our own presets, one trained on built-in stories."""
    given = preset(name)
    here = SHARED / "reference" / {"llama2c": "mistral", "gpt2": "gpt2"}.get(name.partition("-")[0], "none")
    return (
        Tokenizer.load(here) if here.is_dir() else train_bpe(stories(0, count=2000), min(given.model.vocab_size, 4096))
    )


def write_models(name: str, folder: Path, new: int, wanted: set[str], llama2c: Path | None) -> Transformer:
    """The model in every form that somebody wants, with room for `new` tokens."""
    from storylm.export.gguf import write_gguf
    from storylm.export.llama2c import write_llama2c, write_tokenizer

    config = preset(name).model
    config = config.model_copy(update={"context": max(config.context, PROMPT + new)})  # llama2c-15m has 256
    model = Transformer(config).initialise(torch.Generator().manual_seed(0)).eval()
    tokenizer = tokenizer_for(name)
    with torch.no_grad():  # whoever ends a story at these never has them for the likeliest
        for special in tokenizer.special_ids:
            model.head_weight[special] = 0
    storylm.save(model, tokenizer, folder)
    for kind, _, precision in (contender.rpartition("-") for contender in sorted(wanted)):
        if kind == "llama.cpp":
            write_gguf(model, tokenizer, folder / GGUF.format(precision), precision)
        elif kind == "ctranslate2":
            _convert_for_ctranslate2(folder, folder / CT2.format(precision), precision)
        elif kind == "llama2.c" and llama2c is not None:
            program, version, form = {"fp32": ("run", 0, "f32"), "int8": ("runq", 2, "int8")}[precision]
            shutil.copy(llama2c / program, folder / program)
            write_llama2c(model, folder / LLAMA2C.format(version), form)
            write_tokenizer(tokenizer, model.config, folder / WORDS)
    return model


def _convert_for_ctranslate2(folder: Path, out: Path, precision: str) -> None:
    """By the converter that it comes with, in a process of its own."""
    code = (
        "import sys; from ctranslate2.converters import TransformersConverter as Converter;"
        "Converter(sys.argv[1]).convert(sys.argv[2], quantization=sys.argv[3], force=True)"
    )
    command = [sys.executable, "-c", code, str(folder), str(out), precision]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 0:  # it writes a token that the tokenizer lacks as null, and then refuses to read that
        settings = json.loads((out / "config.json").read_text(encoding="utf-8"))
        end = settings["eos_token"]
        given = {key: value or end for key, value in settings.items() if key.endswith("_token")}
        write_text(out / "config.json", json.dumps(settings | given))
    else:
        print(f"no CTranslate2: {last_words(done.stderr)}", file=sys.stderr)


def measure(
    name: str, batch: int, options: argparse.Namespace, folder: Path, model: Transformer, say: Callable
) -> Measured:
    """All rounds of a shape and a batch."""
    tokens = torch.randint(
        3, tokenizer_for(name).vocab_size, (batch, PROMPT), generator=torch.Generator().manual_seed(1)
    )
    turn = {"folder": str(folder), "prompts": tokens.tolist(), "new_tokens": options.new, "laps": options.laps}
    turn |= {"seconds": options.seconds, "threads": options.threads, "device": options.device}
    names = contenders(options, name, batch)
    taken: dict[str, list[Measured]] = {each: [] for each in names}
    for number in range(options.rounds):
        for each in names:
            if taken[each] and "failed" in taken[each][-1]:
                continue
            (folder / "turn.json").write_text(json.dumps({**turn, "contender": each}), encoding="utf-8")
            one = run_module("peers.telling", [str(folder / "turn.json")], folder / "result.json", options.threads)
            taken[each].append(one)
            rate = one.get("failed") or f"{batch * options.new / median(one['lap_seconds']):,.0f} tokens/s"
            say(f"{name}, batch {batch}, round {number + 1}: {each}: {rate}")
    rows = [row(each, taken, batch, options, model) for each in names]
    return {"batch": batch, "prompt": PROMPT, "new_tokens": options.new, "rounds": options.rounds, "contenders": rows}


def row(
    name: str, taken: dict[str, list[Measured]], batch: int, options: argparse.Namespace, model: Transformer
) -> Measured:
    """What a contender's turns come to."""
    if "failed" in taken[name][-1]:
        return {"contender": name, "failed": taken[name][-1]["failed"]}

    def speeds(of: str) -> list[float]:
        return [batch * options.new / median(one["lap_seconds"]) for one in taken.get(of, ()) if "failed" not in one]

    own, precision = speeds(name), name.rpartition("-")[2]
    weights = parameters(model.config) - (model.config.vocab_size * model.config.width if model.head is not None else 0)
    size = round(weights * BYTES[precision])
    found: Measured = {"contender": name, "tokens_per_second": spread(own, 4)}
    found["start_seconds"] = round(median(one["start_seconds"] for one in taken[name]), 1)
    if options.device == "cpu":
        found["share_of_limit"] = float(f"{median(own) / batch * size / bytes_per_second(size):.3g}")
    for base in BASELINES.get(batch, ()):
        if name in OURS and len(theirs := speeds(base)) == len(own):
            found[f"times {base}"] = spread([a / b for a, b in zip(own, theirs, strict=True)], 3)
    first, reference = taken[name][0]["told"], taken.get(OURS[0], [{}])[0].get("told")
    if first and reference:
        same = [sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))
                for a, b in zip(first, reference, strict=True)]  # fmt: skip
        found["tokens_as_fp32"] = round(sum(same) / len(same), 1)
    return found


def bytes_per_second(size: int) -> float:
    """At which PyTorch, on its threads, adds up so many bytes: what lies in a cache is read faster."""
    numbers = torch.ones(size // 8, dtype=torch.int64)
    seconds = []
    for _ in range(20):
        began = time.perf_counter()
        numbers.sum()
        seconds.append(time.perf_counter() - began)
    return size / min(seconds)


def main(given: list[str] | None = None) -> int:
    """Measure, write and print."""
    options, console = arguments(given), Console(stderr=True, highlight=False)
    torch.set_num_threads(options.threads)
    results: dict[str, Any] = {"shapes": {}}
    if options.output.is_file():
        results = json.loads(options.output.read_text(encoding="utf-8"))
    results |= {"what": "tokens told per second", "machine": machine(options.device), "versions": versions(PACKAGES)}
    for name in options.shapes:
        with tempfile.TemporaryDirectory(prefix="storylm-bench-") as place:
            folder = Path(place)
            wanted = {each for batch in options.batches for each in contenders(options, name, batch)}
            model = write_models(name, folder, options.new, wanted, options.llama2c)
            for batch in options.batches:
                measured = measure(name, batch, options, folder, model, console.print)
                about = {"parameters": parameters(model.config), "threads": options.threads, "commit": commit()}
                results["shapes"].setdefault(name, {})[str(batch)] = {**measured, **about}
                write_text(options.output, json.dumps(results, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
