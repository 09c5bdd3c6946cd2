"""Figures of lm-eval's own rows, and what is said where it is not installed: without it."""

import sys

import pytest

from cli.telling import call, small_model
from storylm.cli.evaluate import evaluate
from storylm.config.errors import SetupError, UsageError
from storylm.evaluation import zero_shot
from storylm.evaluation.measure import Measure

ROW = {"alias": "one", "sample_len": 4, "acc,none": 0.75, "acc_stderr,none": 0.1, "acc_norm,none": 0.5}
RESULTS = {
    "results": {
        "one": {**ROW, "acc_norm_stderr,none": "N/A", "perplexity,none": 9.0, "perplexity_stderr,none": 2},
        "two": {"acc,none": 0.5, "acc_stderr,none": 0.2, "exact,strict": 0.25, "exact_stderr,strict": 0.0},
        "both": {"alias": "both", " ": "", "acc,none": 0.625, "acc_stderr,none": 0.05},
    },
    "higher_is_better": {"one": {"acc": True, "perplexity": False}, "two": {"acc": True}, "both": {"acc": None}},
}


def test_rows_are_measures() -> None:
    one = zero_shot.measures(RESULTS, "one", {"one": 0.25})
    assert [(row.name, row.value, row.direction, row.reference) for row in one] == [
        ("one_acc", 0.75, "higher", 0.25),
        ("one_acc_norm", 0.5, "higher", 0.25),
        ("one_perplexity", 9.0, "lower", None),
    ]
    assert one[0].interval == pytest.approx((0.75 - 0.196, 0.75 + 0.196), abs=1e-4)
    assert one[1].interval is None
    assert zero_shot.measures(RESULTS, "both", {"one": 0.25, "two": 0.5}) == [
        Measure("both_acc", 0.625, "higher", pytest.approx((0.527, 0.723), abs=1e-3), 0.375)
    ]
    without_group = {**RESULTS, "results": {name: RESULTS["results"][name] for name in ("one", "two")}}
    found = zero_shot.measures(without_group, "a_tag", {"one": None, "two": 0.5})
    assert [row.name for row in found] == ["one_acc", "one_acc_norm", "one_perplexity", "two_acc", "two_exact_strict"]
    assert [row.reference for row in found] == [None, None, None, 0.5, None]


def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(zero_shot, "find_spec", lambda module: None if module == "lm_eval" else sys.modules)
    with pytest.raises(SetupError, match=r"need lm_eval: pip install 'storylm\[harness\]'"):
        call(evaluate, small_model(tmp_path / "model"), "--harness", "blimp")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--harness", " ,"], "is empty"), (["--harness-limit", "3", "--suites", "facts"], "say --harness")],
)
def test_what_asks_for_nothing_is_refused(arguments, words) -> None:
    with pytest.raises(UsageError, match=words):
        call(evaluate, "grammar-1m", *arguments)
