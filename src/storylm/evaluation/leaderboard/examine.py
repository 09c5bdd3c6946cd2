"""Everything that models are compared by, asked of one model: every model of a leaderboard is asked the same."""

# S stories

import hashlib
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import numpy as np

from storylm.data.instruct import order_of
from storylm.evaluation.asking import ask_suite
from storylm.evaluation.corpus import Corpus
from storylm.evaluation.likelihood import CONVENTION as OF_STORIES
from storylm.evaluation.likelihood import evaluate
from storylm.evaluation.measure import Measure
from storylm.evaluation.per_story import PerStory
from storylm.evaluation.suites import SUITES
from storylm.evaluation.telling import Manner
from storylm.evaluation.told import Count, Stories, judge_told
from storylm.generation.engine import tell
from storylm.generation.sampling import Sampling
from storylm.generation.telling import Story
from storylm.model.count import parameters
from storylm.model.fingerprint import fingerprint
from storylm.model.transformer import Transformer
from storylm.text.tokenizer import Tokenizer

CONVENTION = f"{OF_STORIES} Of stories longer than a model's context, windows half a context apart score the rest."
TIMED = 3  # stories that are told one at a time for the speed


@dataclass(frozen=True)
class Questions:
    """What every model is asked.

    `stories` are told from beginnings of the corpus and judged beside their true endings, none where it is 0; `eyes`
    is the model that sees them for MAUVE, the same for all, and without one there is none.
    """

    corpus: Corpus
    prompt: str = "Once upon a time"
    stories: int = 100
    manner: Manner = field(default_factory=Manner)
    eyes: tuple[Transformer, Tokenizer] | None = None

    @cached_property
    def about(self) -> dict[str, Any]:
        """All that answers depend on besides the model, as JSON's types: the stories by count, bytes and SHA-256."""
        found, count, size = hashlib.sha256(), 0, 0
        for story in self.corpus:
            text = story.encode()
            found.update(f"{len(text)} {order_of(story)}\n".encode() + text)
            count, size = count + 1, size + len(text)
        return {
            "data": self.corpus.name,
            "split": self.corpus.split,
            "unreadable": dict(self.corpus.unreadable),
            "repaired": dict(self.corpus.repaired),
            "sha256": found.hexdigest(),
            "stories": count,
            "bytes": size,
            "prompt": self.prompt,
            "told": self.stories,
            **asdict(self.manner),
            "eyes": self.eyes and {"weights": fingerprint(self.eyes[0]), "tokenizer": self.eyes[1].fingerprint},
        }


@dataclass(frozen=True, eq=False)
class Findings:
    """A model's answers. `measures` begin with bits per byte; `story` is what it tells from the prompt, `told` what was
    judged; `story_nats` and `story_bytes` [S] are those of every story of the corpus, all of it. `lossless` is whether
    its tokenizer gives every text back, `asked` when it was asked, since a speed is that of a machine at a time."""

    parameters: int
    lossless: bool
    asked: str
    tokens_per_second: float
    story: str
    measures: list[Measure]
    story_nats: np.ndarray
    story_bytes: np.ndarray
    told: list[dict[str, Any]]

    def measure(self, name: str) -> Measure | None:
        """One of them by name; None where there is no such figure."""
        return next((one for one in self.measures if one.name == name), None)

    @property
    def bits_per_byte(self) -> Measure:
        return self.measures[0]

    @property
    def figure(self) -> float:
        """Bits per byte as a number, which they always are: `examine` asks for it."""
        value = self.bits_per_byte.value
        assert value is not None
        return value

    def to_json(self) -> dict[str, Any]:
        """As JSON's types, nothing rounded."""
        arrays = {name: getattr(self, name).tolist() for name in ("story_nats", "story_bytes")}
        return {**vars(self), "measures": [one.to_json() for one in self.measures], **arrays}

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> "Findings":
        """What `to_json` made."""
        arrays = {name: np.array(row[name]) for name in ("story_nats", "story_bytes")}
        return cls(**{**row, "measures": [Measure.from_json(one) for one in row["measures"]], **arrays})


def examine(
    model: Transformer,
    tokenizer: Tokenizer,
    questions: Questions,
    count: Count = lambda what, done, total: None,
) -> Findings:
    """Ask a model everything. Minutes for a few thousand stories on a CPU.

    Raises:
        UserError: what `evaluate` and `judge_stories` raise.
    """
    manner, total = questions.manner, questions.about["stories"]
    story, speed = _tell(model, tokenizer, questions)
    kept = PerStory(tokenizer.end_id)
    likelihood = evaluate(
        model,
        tokenizer,
        questions.corpus,
        stride=max(1, model.config.context // 2),
        progress=lambda done, tokens: count("bits per byte", done, total),
        listeners=[kept],
    ).checked()
    measures, told = kept.measures(likelihood, manner.seed), []
    for name in SUITES:
        count(f"asking {name}", 0, 0)
        measures += ask_suite(model, tokenizer, name, manner.seed)[0]
    if questions.stories:
        stories = Stories(questions.stories, real=questions.corpus)
        of_stories, told = judge_told(model, tokenizer, stories, manner, questions.eyes, count)
        measures += of_stories
    return Findings(
        parameters(model.config),
        tokenizer.lossless,
        datetime.now(UTC).isoformat(timespec="seconds"),
        speed,
        story,
        measures,
        kept.story_nats,
        kept.story_bytes,
        [one.to_json() for one in told],
    )


def _tell(model: Transformer, tokenizer: Tokenizer, questions: Questions) -> tuple[str, float]:
    """The story that the prompt becomes, and tokens a second: of the fastest of some, as machines are busy at times."""
    manner = questions.manner
    sampling = Sampling(temperature=manner.temperature)

    def told(length: int, seed: int) -> Story:
        (story,) = tell(
            model,
            tokenizer,
            questions.prompt,
            sampling,
            max_new_tokens=length,
            seed=seed,
            batch_size=1,
            truncate="left",
        )
        return story

    told(2, 0)  # kernels are built, and memory is fetched
    stories, speeds = [], []
    for number in range(TIMED):
        began = time.perf_counter()
        stories.append(told(manner.max_new_tokens, manner.seed + number))
        speeds.append(stories[-1].tokens / (time.perf_counter() - began))
    return stories[0].text, max(speeds)
