"""The model card: README.md with what the Hub wants to know at its top, as YAML, and what people want to know below."""

from typing import Any

import yaml

from storylm.config.model import ModelConfig
from storylm.export.provenance import Provenance
from storylm.model.count import parameters
from storylm.text.tokenizer import Tokenizer

CARD = "README.md"
WRITTEN_BY = "<!-- written by storylm -->"
"""What tells a card from one that a person wrote."""

_PAGE = """---
{header}---
{written_by}
# {name}

A language model of {parameters} parameters that tells short stories. It knows nothing of the world but the stories it
was trained on: it follows no instructions, and what it tells is neither checked nor true.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{name}")
model = AutoModelForCausalLM.from_pretrained("{name}")
prompt = tokenizer("{start}Once upon a time", add_special_tokens=False, return_tensors="pt")
print(tokenizer.decode(model.generate(**prompt, do_sample=True, temperature=0.8, max_new_tokens=200)[0]))
```

or `storylm generate {name} --prompt "Once upon a time"`. A story begins after `{start}` and ends with `{end}`.

| | |
|---|---|
{facts}
"""


def model_card(
    config: ModelConfig, tokenizer: Tokenizer | None, name: str, origin: Provenance, license: str | None = None
) -> str:
    """The card of a model called `name` (on the Hub, OWNER/NAME); `license` is one of the Hub's names, as in "mit"."""
    windows = {window for window in config.windows if window is not None and window < config.context}
    facts = {
        "architecture": f"{config.family}, {config.layers} layers of width {config.width}, {config.heads} heads"
        + (f", {config.kv_heads} of keys and values" if config.kv_heads != config.heads else ""),
        "context": f"{config.context:,} tokens"
        + (f", attention windows of {', '.join(map(str, sorted(windows)))}" if windows else ""),
        "vocabulary": f"{config.vocab_size:,}",
        "trained on": origin.source,
        "training": origin.steps and f"{origin.steps:,} steps, {origin.tokens or 0:,} tokens",
        "bits per byte": origin.bits_per_byte
        and f"{origin.bits_per_byte:.4f} on {origin.stories:,} validation stories, each from its first token, nats of "
        "special tokens left out, stories longer than the context cut",
    }
    return _PAGE.format(
        header=yaml.safe_dump(_header(name, origin, license), sort_keys=False, allow_unicode=True),
        written_by=WRITTEN_BY,
        name=name,
        parameters=f"{parameters(config):,}",
        start=tokenizer.start if tokenizer else "",
        end=tokenizer.end if tokenizer else "",
        facts="\n".join(f"| {what} | {fact} |" for what, fact in facts.items() if fact),
    )


def _header(name: str, origin: Provenance, license: str | None) -> dict[str, Any]:
    header: dict[str, Any] = {"license": license} if license else {}
    if origin.source:
        header["language"] = "en"  # of the named corpora and of the built-in stories
    header |= {"library_name": "transformers", "pipeline_tag": "text-generation", "tags": ["storylm", "stories"]}
    if origin.dataset:
        header["datasets"] = [origin.dataset]
    if origin.bits_per_byte is not None:
        result = {
            "task": {"type": "text-generation"},
            "dataset": {"name": origin.source, "type": origin.dataset or "storylm"},
            "metrics": [{"type": "bits_per_byte", "value": round(origin.bits_per_byte, 4), "name": "bits per byte"}],
        }
        header["model-index"] = [{"name": name.rpartition("/")[2], "results": [result]}]
    return header


def renamed(card: str, name: str, new: str) -> str:
    """A card for the model under another name, in the places where `model_card` has it."""
    for place in ("\n# {}\n", 'from_pretrained("{}")', "storylm generate {} "):
        card = card.replace(place.format(name), place.format(new))
    return card
