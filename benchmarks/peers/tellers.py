"""Who decodes: each `open_…` returns a function from prompts to `count` new ids of each, the likeliest always."""

# B prompts, T tokens of a prompt

import ctypes
import os
import re
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Ids = Sequence[Sequence[int]]
Tell = Callable[[Ids, int], list[list[int]]]
GGUF, CT2, LLAMA2C, WORDS = "model-{}.gguf", "ct2-{}", "model-{}.bin", "tokenizer.bin"


def open_storylm(folder: Path, precision: str, batch: int, capacity: int, device: str, threads: int) -> Tell:
    """This package's `Decoder`, as `generate` and the server use it."""
    import torch

    import storylm
    from storylm.generation.decoder import Decoder, Draft
    from storylm.generation.reading import build_reader
    from storylm.generation.sampling import Sampling

    torch.set_num_threads(threads)
    model = storylm.load(folder)[0].to(device).eval()
    reader = build_reader(model, batch, capacity, precision)

    def tell(prompts: Ids, count: int) -> list[list[int]]:
        decoder = Decoder(reader, model.config.vocab_size)
        drafts = [Draft(list(prompt), 0, Sampling(temperature=0)) for prompt in prompts]
        for draft in drafts:
            decoder.add(draft)
        for _ in range(count):
            decoder.step()
        return [draft.drawn for draft in drafts]

    return tell


def open_transformers(folder: Path, precision: str, batch: int, capacity: int, device: str, threads: int) -> Tell:
    """`generate` of transformers, in fp32 or bf16."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(threads)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).to(device).eval()

    @torch.inference_mode()
    def tell(prompts: Ids, count: int) -> list[list[int]]:
        ids_BT = torch.tensor(prompts, device=device)
        settings: Any = {"do_sample": False, "min_new_tokens": count, "max_new_tokens": count, "pad_token_id": 0}
        told_BT = model.generate(ids_BT, attention_mask=torch.ones_like(ids_BT), **settings)
        return told_BT[:, ids_BT.shape[1] :].tolist()

    return tell


def open_llamacpp(folder: Path, precision: str, batch: int, capacity: int, device: str, threads: int) -> Tell:
    """llama.cpp by its own functions: no sampler and no text in between, which would only slow it down."""
    import llama_cpp as library
    import numpy as np

    library.llama_log_set(_SILENT, ctypes.c_void_p())
    library.llama_backend_init()
    model = library.llama_model_load_from_file(
        str(folder / GGUF.format(precision)).encode(), library.llama_model_default_params()
    )
    settings = library.llama_context_default_params()
    settings.n_ctx, settings.n_seq_max = batch * capacity, batch
    settings.n_batch = settings.n_ubatch = max(512, batch)
    settings.n_threads = settings.n_threads_batch = threads
    context = library.llama_init_from_model(model, settings)
    rows = library.llama_vocab_n_tokens(library.llama_model_get_vocab(model))
    given = library.llama_batch_init(settings.n_batch, 0, 1)

    def read(tokens: list[tuple[int, int, int, bool]]) -> None:
        for index, (token, place, sequence, wanted) in enumerate(tokens):
            given.token[index], given.pos[index], given.logits[index] = token, place, wanted
            given.n_seq_id[index], given.seq_id[index][0] = 1, sequence
        given.n_tokens = len(tokens)
        if library.llama_decode(context, given):
            raise RuntimeError("llama_decode failed")

    def likeliest(index: int) -> int:
        return int(np.ctypeslib.as_array(library.llama_get_logits_ith(context, index), shape=(rows,)).argmax())

    def tell(prompts: Ids, count: int) -> list[list[int]]:
        library.llama_memory_clear(library.llama_get_memory(context), True)
        told: list[list[int]] = []
        for sequence, prompt in enumerate(prompts):
            read([(token, place, sequence, place == len(prompt) - 1) for place, token in enumerate(prompt)])
            told.append([likeliest(len(prompt) - 1)])
        for number in range(1, count):
            read([(own[-1], len(prompts[row]) + number - 1, row, True) for row, own in enumerate(told)])
            for row, own in enumerate(told):
                own.append(likeliest(row))
        return told

    return tell


def open_ctranslate2(folder: Path, precision: str, batch: int, capacity: int, device: str, threads: int) -> Tell:
    """CTranslate2's generator, in whichever of two ways is faster here: all threads to one worker, or each a worker of
    its own with its share of the batch. A worker's team of as many threads as there are cores is put to sleep by its
    OpenMP (libgomp) after every operation, which costs a small model more than a second thread brings."""
    if _has_avx512():  # on processors that are not Intel's it would take AVX2
        os.environ.setdefault("CT2_FORCE_CPU_ISA", "AVX512")
    import ctranslate2

    words = _words(folder)
    numbers = {word: number for number, word in enumerate(words)}

    def with_workers(workers: int) -> Tell:
        generator = ctranslate2.Generator(
            str(folder / CT2.format(precision)),
            device=device,
            compute_type=precision,
            inter_threads=workers,
            intra_threads=max(1, threads // workers),
        )

        def tell(prompts: Ids, count: int) -> list[list[int]]:
            told = generator.generate_batch(
                [[words[token] for token in prompt] for prompt in prompts],
                max_batch_size=-(-len(prompts) // workers),
                max_length=count,
                min_length=count,
                sampling_topk=1,
                include_prompt_in_result=False,
                end_token=[],
            )
            return [[numbers[word] for word in each.sequences[0]] for each in told]

        return tell

    def seconds(tell: Tell) -> float:
        """Of a few tokens, the fastest of some."""
        taken = []
        for _ in range(5):
            began = time.perf_counter()
            tell([[3, 4, 5]] * batch, 16)
            taken.append(time.perf_counter() - began)
        return min(taken)

    return min([with_workers(workers) for workers in sorted({1, threads})], key=seconds)


def open_llama2c(folder: Path, precision: str, batch: int, capacity: int, device: str, threads: int) -> Tell:
    """A binary of llama2.c, which tells how fast it was: the seconds of its tokens are `tell.seconds`."""
    program, version = {"fp32": ("run", 0), "int8": ("runq", 2)}[precision]
    command = [str(folder / program), str(folder / LLAMA2C.format(version)), "-z", str(folder / WORDS), "-t", "0"]

    def tell(prompts: Ids, count: int) -> list[list[int]]:
        steps = len(prompts[0]) + count
        done = subprocess.run([*command, "-n", str(steps)], capture_output=True, check=True)
        found = re.search(rb"achieved tok/s: ([\d.]+)", done.stderr)
        if found is None:
            raise RuntimeError("llama2.c ended its story at once")
        tell.seconds = count / float(found[1])  # type: ignore[attr-defined]
        return []

    return tell


TELLERS = {
    "storylm": open_storylm,
    "transformers": open_transformers,
    "llama.cpp": open_llamacpp,
    "ctranslate2": open_ctranslate2,
    "llama2.c": open_llama2c,
}


@ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
def _SILENT(level: int, text: bytes, data: Any) -> None:  # noqa: N802 - kept as long as llama.cpp may call it
    pass


def _has_avx512() -> bool:
    """As far as Linux tells."""
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.is_file() and "avx512vl" in cpuinfo.read_text(encoding="utf-8")


def _words(folder: Path) -> list[str]:
    import json

    return json.loads((folder / CT2.format("int8") / "vocabulary.json").read_text(encoding="utf-8"))
