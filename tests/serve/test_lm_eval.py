"""lm-eval as a client: its `local-completions`, on tasks written here, against figures of our own."""

import json
import math

import pytest
import torch

pytest.importorskip("lm_eval", reason="pip install 'lm-eval[api]' in an environment of its own to run this")

import storylm
from reliability.visitors import MODEL
from serve.process import Server

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
QUESTIONS = [
    ("Once upon a", [" time", " brick", " the"], 0),
    ("Once upon a time, there was a little", [" boy", " of", " which"], 0),
]
TASK = """
task: endings
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{text}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: label
target_delimiter: ""
metric_list: [{{metric: acc}}]
"""


def test_choices_are_scored_as_the_model_scores_them(tmp_path, monkeypatch):
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    rows = [{"text": text, "choices": choices, "label": label} for text, choices, label in QUESTIONS]
    (tmp_path / "questions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "endings.yaml").write_text(TASK.format(file=tmp_path / "questions.jsonl"))
    model, tokenizer = storylm.load(MODEL)
    assert tokenizer is not None
    storylm.save(model, tokenizer, tmp_path / "model")
    with Server(MODEL) as running:
        result = simple_evaluate(
            model="local-completions",
            model_args={
                "model": MODEL,
                "base_url": f"http://127.0.0.1:{running.port}/v1/completions",
                "tokenizer": str(tmp_path / "model"),
                "num_concurrent": 2,
            },
            tasks=["endings"],
            task_manager=TaskManager(include_path=str(tmp_path), include_defaults=False),
            bootstrap_iters=0,
            log_samples=True,
        )
    assert result is not None
    assert result["results"]["endings"]["acc,none"] == 1.0
    for sample, (text, choices, _) in zip(result["samples"]["endings"], QUESTIONS, strict=True):
        for ((nats, _greedy),), choice in zip(sample["resps"], choices, strict=True):
            assert nats == pytest.approx(likelihood(model, tokenizer, text, choice), abs=1e-3)


def likelihood(model, tokenizer, text: str, choice: str) -> float:
    before = [tokenizer.start_id, *tokenizer.encode(text)]
    ids = [tokenizer.start_id, *tokenizer.encode(text + choice)]
    assert ids[: len(before)] == before
    with torch.inference_mode():
        logprobs = model(torch.tensor([ids]))[0, :, : tokenizer.vocab_size].log_softmax(-1)
    return math.fsum(float(logprobs[place - 1, ids[place]]) for place in range(len(before), len(ids)))
