"""Whether those who are introduced keep their names."""

from storylm.evaluation.text.metric import StoryMetric, Told
from storylm.text.words import name_spans


def kept_names(story: Told) -> tuple[float, float]:
    """Mentions of names in a story's second half that its first half knows, and all of them; the beginning counts too.

    A rule of our own. Someone new may well come late, so real stories do not reach 1.

    >>> kept_names(Told("Tom met Lily. ", "She smiled. He waved to Lily and to Sam. Then it rained."))
    (1, 2)
    """
    text = story.text
    mentions = [(first, text[first:end]) for first, end in name_spans(text)]
    known = {name for first, name in mentions if first < len(text) / 2}
    late = [name for first, name in mentions if first >= len(text) / 2]
    return sum(name in known for name in late), len(late)


METRICS = (StoryMetric("kept_names", "higher", kept_names),)
