"""Prompt suites by name: the figures of what a model answers, and every answer."""

from typing import Any

from storylm.evaluation import answers, instructions
from storylm.evaluation.measure import Measure
from storylm.evaluation.suites import SUITES, load_suite
from storylm.model.transformer import Transformer
from storylm.text.tokenizer import Tokenizer

INSTRUCT = "instruct"
NAMES = (*SUITES, INSTRUCT)


def ask_suite(
    model: Transformer, tokenizer: Tokenizer, name: str, seed: int = 0, max_new_tokens: int = 256
) -> tuple[list[Measure], list[dict[str, Any]]]:
    """The figures of a suite of `NAMES`, and every answer as JSON's types; the length is of stories to order."""
    if name == INSTRUCT:
        orders = instructions.instructions()
        stories = instructions.follow(model, tokenizer, seed, max_new_tokens)
        rows = [
            {"prompt": order.prompt, "story": story, "met": order.check(story)}
            for order, story in zip(orders, stories, strict=True)
        ]
        return instructions.measures(stories, orders, seed), rows
    suite = load_suite(name)
    found = answers.ask(model, tokenizer, suite)
    return answers.measures(suite, found, seed), [answer.to_json() for answer in found]
