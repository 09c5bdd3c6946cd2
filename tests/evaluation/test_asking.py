"""Prompt suites by name: whoever asks, the same seed draws the same intervals."""

from storylm.evaluation import answers, instructions
from storylm.evaluation.asking import ask_suite
from storylm.evaluation.suites import load_suite


def test_the_seed_draws_the_intervals_of_a_suite(model, letters, monkeypatch):
    suite = load_suite("facts")
    found = answers.ask(model, letters, suite)
    monkeypatch.setattr(answers, "ask", lambda *_: found)
    of = {seed: ask_suite(model, letters, "facts", seed)[0] for seed in range(9)}
    assert all(of[seed] == answers.measures(suite, found, seed) for seed in of)
    assert len({tuple(one.interval for one in measures) for measures in of.values()}) > 1


def test_the_seed_draws_the_intervals_of_orders(model, letters, monkeypatch):
    orders = instructions.instructions()
    stories = [" ".join(order.words[: number % 3]) for number, order in enumerate(orders)]
    monkeypatch.setattr(instructions, "follow", lambda *_: stories)
    of = {seed: ask_suite(model, letters, "instruct", seed)[0] for seed in range(9)}
    assert all(of[seed] == instructions.measures(stories, orders, seed) for seed in of)
    assert len({tuple(one.interval for one in measures) for measures in of.values()}) > 1
