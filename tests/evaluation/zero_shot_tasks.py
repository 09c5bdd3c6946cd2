"""Tasks of lm-eval written here, with data of their own: choices, and a last word as LAMBADA has it."""

import json
from pathlib import Path

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
        "last_word": [{"text": text} for text in SENTENCES],
    }
    for name, content in (("choosing", CHOICES), ("last_word", LAST_WORD)):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows[name])))
        (folder / f"{name}.yaml").write_text(content.format(file=folder / f"{name}.jsonl"))
    (folder / "choosing_again.yaml").write_text((folder / "choosing.yaml").read_text().replace("choosing", "again", 1))
    (folder / "pair.yaml").write_text(GROUP)
    (folder / "nowhere.yaml").write_text(NOWHERE)
    return {name: str(folder / f"{name}.yaml") for name in ("choosing", "last_word", "nowhere")}
