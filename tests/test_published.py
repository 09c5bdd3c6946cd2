"""The five published systems, each on real stories with its own kind of tokenizer, all the way round."""

import math
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import storylm
from storylm.config.load import resolve
from storylm.training.observers import build_observers
from storylm.training.run import train_run
from training.runs import At, interrupt

# Preset -> its tokenizer, as a path below the reference folder where there is one.
SYSTEMS = {"xs-3m": "gpt2", "gpt2-33m": "gpt2", "word-20m": None, "nano-22m": None, "mistral-40m": "mistral"}

# Everything of the preset but the size of the job: three steps of two short rows.
SHORT = (
    "data.max_stories=300",
    "data.context=48",
    "train.steps=3",
    "train.batch_size=2",
    "train.accumulation=1",
    "train.log_every=1",
    "train.eval_every=0",
    "train.compile=off",
    "train.sample_prompts=[Once]",
)


@pytest.mark.parametrize("name", SYSTEMS)
def test_trains_resumes_evaluates_generates_and_loads_in_transformers(name, shared, tmp_path: Path) -> None:
    source = f"data.source={shared / 'data' / 'tinystories-train.txt.xz'}"
    tokenizer_of = SYSTEMS[name]
    own = [] if tokenizer_of is None else [f"tokenizer={shared / 'reference' / tokenizer_of}"]
    config = resolve(name, None, [source, *own, *SHORT]).config
    assert config.model == storylm.preset(name).model

    watchers = [*build_observers(config, tmp_path, 0), At(2, interrupt)]
    assert train_run(config, tmp_path, observers=watchers).reason == "interrupted"
    result = train_run(config, tmp_path)
    assert (result.reason, result.steps, result.skipped) == ("finished", 3, 0)

    model, tokenizer = storylm.load(result.model)
    assert tokenizer is not None
    stories = ["Once upon a time, there was a little fox.", 'She said, "Let\'s play!"\n\nThe end.']
    likelihood = storylm.evaluate(model, tokenizer, stories)
    assert likelihood.bytes == sum(len(story.encode()) for story in stories)
    assert likelihood.nats_per_token < 1.1 * math.log(config.model.vocab_size)
    story = storylm.generate(model, tokenizer, stories[0], max_new_tokens=8, temperature=0)[0]
    assert story.startswith(stories[0])

    theirs = AutoModelForCausalLM.from_pretrained(result.model).eval()
    assert type(theirs).__name__.lower().startswith(config.model.family.replace("_", ""))
    ids = torch.tensor([[tokenizer.start_id, *tokenizer.encode(stories[0])]])
    with torch.inference_mode():
        torch.testing.assert_close(theirs(ids).logits, model.eval()(ids), atol=1e-4, rtol=1e-4)
    reader = AutoTokenizer.from_pretrained(result.model)
    for text in stories:
        assert reader.encode(text, add_special_tokens=False) == tokenizer.encode(text)
