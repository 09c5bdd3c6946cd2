"""llama2.c's own `run` and `runq` tell the stories that we tell, the likeliest token always.

STORYLM_LLAMA2C names the folder that has the two: `make run` in a clone of github.com/karpathy/llama2.c makes them.
"""

import os
import subprocess
from pathlib import Path

import pytest
import torch

from export.conftest import config
from model.model_zoo import random_model
from model.numpy_llama import BOS, NumpyLlama, printed, read_pieces
from storylm.export.exporting import export
from storylm.model.llama2c import read_llama2c
from storylm.model.transformer import Transformer
from storylm.text.tokenizer import Tokenizer

pytestmark = pytest.mark.slow
PROMPT = "Once upon a time, Tom's café had 3 🦊s"
STEPS = 200
STEPS_8 = 100  # later, a tie within rounding may part the stories of a model that says anything
NEAR = 0.15  # in standard deviations of the logits: how far below our likeliest token one may be that `runq` chose
_SIZES = {"vocab_size": 520, "context": 256, "norm_eps": 1e-5}
MODELS = {
    "tied": config("llama", kv_heads=2, tied=True, **_SIZES),
    "untied": config("llama", kv_heads=3, rope_layout="interleaved", **_SIZES),
    "mistral": config("mistral", heads=4, ff_width=192, windows=(256,), **_SIZES),
}


@pytest.fixture(scope="module")
def programs() -> Path:
    folder = Path(os.environ.get("STORYLM_LLAMA2C", "none"))
    if not (folder / "run").is_file() or not (folder / "runq").is_file():
        pytest.skip("llama2.c is not here: set STORYLM_LLAMA2C to the folder of its run and runq")
    return folder


@pytest.fixture(scope="module")
def tokenizer(shared: Path) -> Tokenizer:
    return Tokenizer.load(shared / "reference" / "stories260K" / "tok512.model")


@pytest.fixture(params=["stories260K", *MODELS])
def model(request: pytest.FixtureRequest, shared: Path) -> Transformer:
    """A trained one, and ones that say anything, all sizes different."""
    if request.param == "stories260K":
        return read_llama2c(shared / "reference" / "stories260K" / "stories260K.bin")
    return random_model(MODELS[request.param], 6.0)


def told(program: Path, folder: Path, prompt: str, steps: int) -> bytes:
    words = ["-z", str(folder / "tokenizer.bin"), "-t", "0", "-n", str(steps), "-i", prompt]
    done = subprocess.run([str(program), str(folder / "model.bin"), *words], capture_output=True, check=True)
    return done.stdout.removesuffix(b"\n")


def greedy(model: Transformer, ids: list[int]) -> list[int]:
    """With the start token before and the likeliest ones after, until a story ends or there are so many."""
    ids = [BOS, *ids]
    with torch.inference_mode():
        while len(ids) <= STEPS:
            likeliest = int(model(torch.tensor([ids]))[0, -1].argmax())
            if likeliest == BOS:
                break
            ids.append(likeliest)
    return ids


def test_run_tells_our_stories(programs: Path, model: Transformer, tokenizer: Tokenizer, tmp_path: Path) -> None:
    export(model, tokenizer, "llama2c", tmp_path / "out", "f32")
    pieces = read_pieces(tmp_path / "out" / "tokenizer.bin")
    for prompt in ("", PROMPT):
        ids = greedy(model, tokenizer.encode(prompt))
        assert len(set(ids)) > 10
        assert told(programs / "run", tmp_path / "out", prompt, STEPS) == printed(pieces, ids[1:])


def test_runq_tells_what_is_likeliest_for_us(
    programs: Path, model: Transformer, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    """It rounds what flows through the model to 8 bits: exactly the story of a NumPy that does so too, which is read
    by our model of the same file, and of whose tokens each is the likeliest there or near it."""
    export(model, tokenizer, "llama2c", tmp_path / "out", "int8")
    again = read_llama2c(tmp_path / "out" / "model.bin")
    prompt = [BOS, *tokenizer.encode(PROMPT)]
    ids = NumpyLlama(tmp_path / "out" / "model.bin").greedy(STEPS_8, prompt)
    pieces = read_pieces(tmp_path / "out" / "tokenizer.bin")
    assert told(programs / "runq", tmp_path / "out", PROMPT, STEPS_8) == printed(pieces, ids)
    with torch.inference_mode():
        logits_TV = again(torch.tensor([[BOS, *ids[:-1]]]))[0]
    chosen_T = logits_TV.gather(1, torch.tensor(ids)[:, None])[:, 0]
    behind_T = (logits_TV.amax(1) - chosen_T)[len(prompt) - 1 :]
    assert float(behind_T.max() / logits_TV.std()) < NEAR
