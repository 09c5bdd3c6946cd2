"""Prompts whose tokens' likelihoods are asked for, scored between the steps of stories."""

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

from storylm.generation.decoder import Decoder
from storylm.generation.draft import Likelihood
from storylm.generation.reading import Reader
from storylm.generation.scoring import score

if TYPE_CHECKING:
    from storylm.serve.batcher import Job


class Scoring:
    """The jobs of one model that wait for this: one at a time, a piece of its prompt between two steps.

    Meanwhile it has a slot of the decoder's, which no story has; where none is free it waits for one, as stories do.
    """

    def __init__(self, decoder: Decoder, reader: Reader, vocabulary: int):
        self.jobs: deque[Job] = deque()
        self._decoder, self._reader, self._vocabulary = decoder, reader, vocabulary
        self._slot: int | None = None
        self._pieces: Iterator[list[Likelihood]] | None = None

    def advance(self) -> "Job | None":
        """Score a piece of the first job's prompt, if there is a slot; the job, where that was the last."""
        self._slot = self._decoder.borrow() if self._slot is None else self._slot
        if self._slot is None:
            return None
        job = self.jobs[0]
        if self._pieces is None:
            draft = job.telling.draft
            self._pieces = score(self._reader, self._slot, draft.prompt_ids, self._vocabulary, draft.watch or 0)
            job.prompt_likelihoods = [None]
        piece = next(self._pieces, None)
        if piece is None:
            self.leave(job)
            return job
        job.prompt_likelihoods += piece
        return None

    def leave(self, job: "Job") -> None:
        """This one waits no more; the slot goes to whoever waits for one, before the next prompt may have it."""
        if job is self.jobs[0]:
            self._pieces = None
            if self._slot is not None:
                self._decoder.give_back(self._slot)
                self._slot = None
        self.jobs.remove(job)
