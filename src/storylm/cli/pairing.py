"""Models held against each other on the same stories: whether they can be, and how they differ."""

from typing import TYPE_CHECKING, Any

from storylm.cli import options

if TYPE_CHECKING:
    from storylm.evaluation.corpus import Corpus
    from storylm.evaluation.per_story import PerStory


def check_comparable(
    models: list[str], tokenizer: str | None, device: str, corpus: "Corpus", stride: int | None
) -> None:
    """Raise what comparing would, before hours of telling and judging.

    Raises:
        CheckpointError: one of the models is not there.
        UsageError: the stride does not fit one, or without one there is no story to compare models on.
    """
    from storylm.config.errors import UsageError
    from storylm.evaluation.per_story import comparable

    seers = []
    for name in models:
        network, words = options.load_model(name, tokenizer, device)
        context = network.config.context
        if stride is not None and not 1 <= stride <= context:
            raise UsageError(f"--stride {stride} is not allowed: it is from 1 to the context of {name}, {context}")
        seers.append((words, context))
    for name, seer in zip(models[1:], seers[1:], strict=True):
        if stride is None and not comparable(corpus, seers[0], seer):
            half = max(1, min(context for _, context in seers) // 2)
            raise UsageError(
                f"{corpus.name} has no story of which {models[0]} and {name} see the same: "
                f"pass --stride {half}, so that all of every story is scored"
            )


def paired_lines(models: list[str], judged: "list[PerStory]", seed: int) -> list[tuple[dict[str, Any], str]]:
    """Each further model against the first, on the same stories: for JSON, and in words."""
    from storylm.evaluation.per_story import compare

    found = []
    for name, per_story in zip(models[1:], judged[1:], strict=False):
        paired = compare(per_story, judged[0], seed)
        around = "" if paired.interval is None else " ({:+.4f} to {:+.4f})".format(*paired.interval)
        line = (
            f"{name} - {models[0]}: {paired.difference:+.4f} bits per byte{around}, "
            f"p = {paired.p_value:.2g}, {paired.stories:,} stories"
        )
        about = {"model": name, "against": models[0], "p_value": paired.p_value, "stories": paired.stories}
        found.append((about | paired.measure("bits_per_byte_difference").to_json(), line))
    return found
