"""Decoding, side by side, in this process: what is told is compared, what is measured is kept."""

import json
from pathlib import Path

import generate
import precision
import pytest
from peers.telling import measure

from storylm.generation.native import kernels


@pytest.fixture
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate, "run_module", lambda _, given, *__: measure(json.loads(Path(given[0]).read_text())))


@pytest.mark.usefixtures("_here")
def test_decoding(tmp_path: Path) -> None:
    output = tmp_path / "results.json"
    output.write_text(json.dumps({"shapes": {"gpt2-33m": {"1": {}}}}))
    short = ["--new", "9", "--rounds", "2", "--laps", "1", "--seconds", "0", "--threads", "1", "--output", str(output)]
    only = "storylm-fp32,storylm-int8,transformers-fp32"
    assert generate.main(["grammar-1m", "--batches", "1", "2", "--only", only, *short]) == 0
    shapes = json.loads(output.read_text())["shapes"]
    assert list(shapes) == ["gpt2-33m", "grammar-1m"]  # what was there stays
    for batch in ("1", "2"):
        ours, fewer_bits, theirs = shapes["grammar-1m"][batch]["contenders"]
        assert ours["tokens_as_fp32"] == theirs["tokens_as_fp32"] == 9  # greedily, the same
        assert fewer_bits["tokens_per_second"]["median"] > 0
        assert theirs["share_of_limit"] > 0
    assert shapes["grammar-1m"]["1"]["contenders"][0]["times transformers-fp32"]["median"] > 0


def test_who_takes_part(tmp_path: Path) -> None:
    options = generate.arguments(["--llama2c", str(tmp_path)])
    assert "llama2.c-int8" in generate.contenders(options, "llama2c-15m", 1)
    assert "llama2.c-int8" not in generate.contenders(options, "llama2c-15m", 32)
    assert "llama2.c-int8" not in generate.contenders(options, "gpt2-33m", 1)
    assert generate.contenders(generate.arguments(["--device", "cuda"]), "story-5m", 1)[-1] == "transformers-bf16"


@pytest.mark.skipif(kernels() is None, reason="no C++ compiler here")
def test_what_fewer_bits_cost(tmp_path: Path) -> None:
    import storylm
    from storylm.data.grammar import stories

    data, output = tmp_path / "stories.txt", tmp_path / "results.json"
    told = list(stories(9, count=4))
    data.write_text("\n<|endoftext|>\n".join(told))
    assert precision.main(["grammar-1m", "--data", str(data), "--output", str(output)]) == 0
    kinds = json.loads(output.read_text())["models"]["grammar-1m"]["kinds"]
    model, tokenizer = storylm.load("grammar-1m")
    assert tokenizer is not None
    exact = storylm.evaluate(model, tokenizer, told).bits_per_byte
    assert kinds["fp32"]["bits_per_byte"] == pytest.approx(exact, abs=2e-5)
    assert kinds["bf16"]["bits_per_byte"] == pytest.approx(exact, abs=5e-3)
    if "int8" in kinds:
        assert kinds["int8"]["bits_per_byte"] == pytest.approx(exact, abs=5e-3)
        assert len(kinds["int8"]["tokens_until_another"]) == 10
