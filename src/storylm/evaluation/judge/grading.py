"""Many stories, one judge: what is known is not asked, what fails is asked again, and what comes is kept at once."""

import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

from storylm.evaluation.judge.asking import Asker, Judge, Sleep
from storylm.evaluation.judge.kept import Kept
from storylm.evaluation.judge.rubric import BadAnswer, Grades
from storylm.evaluation.text.metric import Told


@dataclass(frozen=True)
class Graded:
    """What became of the stories: each one's grades, None where the judge gave none, and why not, counted; the tokens
    of all that was asked now, for nothing too."""

    grades: list[Grades | None]
    failures: dict[str, int]
    tokens_in: int
    tokens_out: int


def waiting(judge: Judge, stories: Sequence[Told], kept: Kept) -> dict[str, Told]:
    """The stories that the judge has not graded yet, each once, by their keys."""
    by_key = {judge.key(story): story for story in stories}
    return {key: story for key, story in by_key.items() if kept.get(key) is None}


def grade(
    judge: Judge,
    stories: Sequence[Told],
    kept: Kept,
    progress: Callable[[int, int], None] = lambda done, failed: None,
    sleep: Sleep | None = None,
    seed: int = 0,
) -> Graded:
    """Have the judge grade every story that it has not graded yet, several at once.

    Interrupted, it waits for the answers that are under way, keeps them, and leaves; called again, it goes on.

    Raises:
        SetupError: the endpoint refuses, or does not answer time and again. What came before is kept.
    """
    asker = Asker(judge, sleep)
    failures: dict[str, int] = {}

    def ask(key: str, story: Told) -> None:
        row = asker.ask(story, random.Random(f"{seed} {key}"))
        if row is not None:
            kept.add(row)

    with ThreadPoolExecutor(judge.parallel) as pool:
        asked = [pool.submit(ask, key, story) for key, story in waiting(judge, stories, kept).items()]
        try:
            for done, future in enumerate(as_completed(asked), 1):
                try:
                    future.result()
                except BadAnswer as error:
                    failures[str(error)] = failures.get(str(error), 0) + 1
                progress(done, sum(failures.values()))
        except BaseException:
            asker.stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    return Graded([kept.get(judge.key(story)) for story in stories], failures, asker.tokens_in, asker.tokens_out)
