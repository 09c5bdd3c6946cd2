"""Every run of words of some texts, in one automaton: finds the longest runs that other texts have too.

A suffix automaton (Blumer et al. 1985; built online) of all texts, parted by words that are in none. It has at most
twice as many states as there are words, and reading another text takes a step a word, however many texts are in it.
"""

from collections.abc import Hashable, Iterable, Sequence


class Automaton:
    """Reads texts with `read`; `matched` then tells what of its own texts was found in any of them.

    >>> own = Automaton([["a", "red", "ball", "fell"]])
    >>> own.read(["the", "red", "ball", "rolled"])
    >>> own.matched(0)
    [0, 1, 2, 0]
    """

    def __init__(self, texts: Iterable[Sequence[Hashable]]):
        self._next: list[dict[Hashable, int]] = [{}]
        self._length, self._link = [0], [-1]
        self._ends: list[list[int]] = []  # of each text, the state after each word
        last = 0
        for number, text in enumerate(texts):
            ends = []
            for word in text:
                last = self._extend(last, word)
                ends.append(last)
            self._ends.append(ends)
            last = self._extend(last, number)  # a number is no word
        self._best = [0] * len(self._length)  # words of the longest run at each state that was read
        self._spread = True

    def _extend(self, last: int, word: Hashable) -> int:
        state = self._add(self._length[last] + 1, {})
        while last != -1 and word not in self._next[last]:
            self._next[last][word] = state
            last = self._link[last]
        if last == -1:
            self._link[state] = 0
            return state
        target = self._next[last][word]
        if self._length[target] == self._length[last] + 1:
            self._link[state] = target
            return state
        copy = self._add(self._length[last] + 1, dict(self._next[target]), self._link[target])
        while last != -1 and self._next[last].get(word) == target:
            self._next[last][word] = copy
            last = self._link[last]
        self._link[target] = self._link[state] = copy
        return state

    def _add(self, length: int, following: dict[Hashable, int], link: int = 0) -> int:
        self._length.append(length)
        self._next.append(following)
        self._link.append(link)
        return len(self._length) - 1

    def read(self, text: Iterable[Hashable]) -> None:
        """Another text: its runs count as found."""
        following, length, link, best = self._next, self._length, self._link, self._best
        state = run = 0
        self._spread = False
        for word in text:
            while word not in following[state] and state:
                state = link[state]
                run = length[state]
            if word in following[state]:
                state = following[state][word]
                run += 1
            if run > best[state]:
                best[state] = run

    def matched(self, text: int) -> list[int]:
        """For each word of own text number `text`, the words of the longest run up to it that was read."""
        if not self._spread:
            for state in sorted(range(1, len(self._length)), key=self._length.__getitem__, reverse=True):
                if self._best[state] and (shorter := self._link[state]) > 0:
                    self._best[shorter] = self._length[shorter]  # with a run, all its endings were read
            self._spread = True
        found = []
        for state in self._ends[text]:
            while state and not self._best[state]:
                state = self._link[state]
            found.append(self._best[state])
        return found
