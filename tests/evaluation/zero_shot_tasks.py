"""Tasks of lm-eval written here, with data of their own: choices, a last word as LAMBADA has it, whole texts, and
stories to be told; and how likely we ourselves find what they ask about."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from storylm.evaluation.answers import continuation_nats
from storylm.model.store import load

QUESTIONS = [
    ("Once upon a", ["time", "brick", "the of"], 0),
    ("Once upon a time, there was a little", ["of", "boy", "which is"], 1),
    ("Tom saw a", ["dog", "quickly of", "the"], 2),  # wrong on purpose: figures of 1 prove little
    ("", ["One day, she was happy.", "Day one, happy was she.", "Was happy she one day."], 0),
]
SENTENCES = ["Lily went to the park to play", "Lily went to the park to therefore", "The cat sat on the mat"]
CHOICES = """
task: choosing
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{text}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: label
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
"""
LAST_WORD = """
task: last_word
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: loglikelihood
doc_to_text: "{{{{text.split(' ')[:-1]|join(' ')}}}}"
doc_to_target: "{{{{' '+text.split(' ')[-1]}}}}"
metric_list:
  - {{metric: perplexity, aggregation: perplexity, higher_is_better: false}}
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
"""
WHOLE = """
task: whole
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{{{text}}}}"
metric_list: [{{metric: bits_per_byte}}]
"""
TELLING = """
task: telling
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{text}}}}"
doc_to_target: ""
generation_kwargs: {{until: [".", "!"], max_gen_toks: 30, do_sample: true, temperature: 0.9}}
metric_list: [{{metric: exact_match}}]
"""
GROUP = """
group: pair
task: [choosing, again]
aggregate_metric_list: [{metric: acc, aggregation: mean, weight_by_size: false}]
"""
NOWHERE = """
task: nowhere
dataset_path: storylm-tests/there-is-no-such-data
test_split: test
output_type: loglikelihood
doc_to_text: text
doc_to_target: text
metric_list: [{metric: acc}]
"""


def write_tasks(folder: Path) -> dict[str, str]:
    """Files of tasks, by the tasks' names."""
    rows = {
        "choosing": [{"text": text, "choices": choices, "label": right} for text, choices, right in QUESTIONS],
        **{name: [{"text": text} for text in SENTENCES] for name in ("last_word", "whole", "telling")},
    }
    contents = {"choosing": CHOICES, "last_word": LAST_WORD, "whole": WHOLE, "telling": TELLING}
    for name, content in contents.items():
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows[name])))
        (folder / f"{name}.yaml").write_text(content.format(file=folder / f"{name}.jsonl"))
    (folder / "choosing_again.yaml").write_text((folder / "choosing.yaml").read_text().replace("choosing", "again", 1))
    (folder / "pair.yaml").write_text(GROUP)
    (folder / "nowhere.yaml").write_text(NOWHERE)
    return {name: str(folder / f"{name}.yaml") for name in (*contents, "nowhere")}


def own_nats(model: str, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
    """Nats of each continuation and the space before it."""
    network, tokenizer = load(model)
    assert tokenizer is not None
    sizes = np.array([len(f" {text}".encode()) for _, text in pairs])
    return continuation_nats(network, tokenizer, pairs)[:, 0] * sizes
