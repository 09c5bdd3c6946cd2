"""The automaton finds what looking everywhere finds."""

from hypothesis import given
from hypothesis import strategies as st

from storylm.evaluation.text.automaton import Automaton

TEXTS = st.lists(st.text("abc", max_size=12), min_size=1, max_size=4)


def by_looking(text: str, others: list[str]) -> list[int]:
    """For each place, the longest run up to it that stands in another text."""
    return [
        max(size for size in range(end + 1) if size == 0 or any(text[end - size : end] in other for other in others))
        for end in range(1, len(text) + 1)
    ]


@given(TEXTS, TEXTS)
def test_matches_are_those_found_by_looking(own, others):
    automaton = Automaton(own)
    for number, other in enumerate(others):
        automaton.read(other)
        if number == 0:
            automaton.matched(0)  # asking in between changes nothing
    for number, text in enumerate(own):
        assert automaton.matched(number) == by_looking(text, others)


def test_runs_do_not_go_from_one_text_into_the_next():
    automaton = Automaton([["a", "b"], ["c", "d"]])
    automaton.read(["b", "c", "d"])
    assert (automaton.matched(0), automaton.matched(1)) == ([0, 1], [1, 2])


def test_it_stays_small():
    text = ["w" + str(number % 7) for number in range(3000)]
    assert len(Automaton([text])._length) <= 2 * (len(text) + 1)
