"""Stories that grow together, one token each at a time; where one is over, the next takes its place."""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from storylm.config.errors import UsageError
from storylm.generation.draft import Draft, Turn
from storylm.generation.reading import Reader
from storylm.generation.steps import Drawn


@dataclass
class _Seat:
    """A story's slot, and how many tokens of it were drawn or are being drawn."""

    slot: int
    count: int = 0


class Decoder:
    """Continuous batching (Orca, Yu et al. 2022): a step draws a token for every story that has a slot.

    What is drawn for a story depends on nothing but its prompt, seed and settings. `vocabulary` is how many token ids
    there are to draw from: a model may have more rows of embeddings, for the sake of a round number.

    A GPU is a step ahead of what is known here: it takes the tokens that it drew straight into the next step, and they
    come here meanwhile. What it then draws for a story that has just ended is not looked at.

    >>> decoder = Decoder(build_reader(model, slots=2, capacity=64), vocabulary=64)      # doctest: +SKIP
    >>> decoder.add(Draft([1, 5, 7], seed=0, sampling=Sampling()))                       # doctest: +SKIP
    >>> for draft, token in decoder.step(): ...                                          # doctest: +SKIP
    """

    def __init__(self, reader: Reader, vocabulary: int):
        self._capacity, self._vocabulary = reader.capacity, vocabulary
        self._steps = reader.steps(vocabulary)
        self._waiting: deque[Draft] = deque()
        self._seats: dict[Draft, _Seat] = {}
        self._free = list(range(reader.slots))[::-1]
        self._launched: deque[tuple[list[Turn], Callable[[], Drawn]]] = deque()

    def __len__(self) -> int:
        """Stories that are not over."""
        return len(self._waiting) + len(self._seats)

    @property
    def running(self) -> int:
        """Stories that have a slot."""
        return len(self._seats)

    def add(self, draft: Draft) -> None:
        """Begin a story as soon as there is a slot.

        Raises:
            UsageError: a prompt of no tokens, too many, or others than the vocabulary's.
        """
        count = len(draft.prompt_ids)
        if not 1 <= count <= self._capacity:
            raise UsageError(f"a prompt of {count} tokens is not allowed: there is room for 1 to {self._capacity}")
        if not 0 <= min(draft.prompt_ids) <= max(draft.prompt_ids) < self._vocabulary:
            raise UsageError(f"a prompt has a token that is not from 0 to {self._vocabulary - 1}")
        self._waiting.append(draft)

    def end(self, drafts: Iterable[Draft]) -> None:
        """These are over: nothing more is drawn for them."""
        for draft in drafts:
            if draft in self._seats:
                self._free.append(self._seats.pop(draft).slot)
            else:
                self._waiting.remove(draft)

    def borrow(self) -> int | None:
        """A slot that no story has, for other reading, if there is one: no story gets it before `give_back`."""
        return self._free.pop() if self._free else None

    def give_back(self, slot: int) -> None:
        """A slot that was borrowed is free again."""
        self._free.append(slot)

    def step(self) -> list[tuple[Draft, int]]:
        """The next token of each story that has a slot, a GPU's own step ahead aside.

        Raises:
            ValueError: a story has as many tokens as there is room for, and was not ended.
        """
        while self and len(self._launched) <= self._steps.ahead:
            self._launch()
        if not self:  # what was launched is of stories that are over
            self._launched.clear()
            return []
        turns, drawn = self._launched.popleft()
        told = []
        for turn, (token, likelihood) in zip(turns, drawn(), strict=True):
            if turn.draft not in self._seats:
                continue
            turn.draft.drawn.append(token)
            if likelihood is not None:
                turn.draft.likelihoods.append(likelihood)
            told.append((turn.draft, token))
        return told

    def _launch(self) -> None:
        while self._waiting and self._free:
            self._seats[self._waiting.popleft()] = _Seat(self._free.pop())
        turns = []
        for draft, seat in self._seats.items():
            turn = Turn(seat.slot, draft, seat.count)
            if turn.place < self._capacity:
                turns.append(turn)
                seat.count += 1
            elif seat.count == len(draft.drawn):  # else its last token is on the way
                raise ValueError(f"a story has {turn.place + 1} tokens, and there is room for {self._capacity}: end it")
        self._launched.append((turns, self._steps.launch(turns) if turns else list))
