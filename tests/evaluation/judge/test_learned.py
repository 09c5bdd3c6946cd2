"""A judge that learned damage: its parts by hand, and that it tells real stories from damaged ones it has not seen."""

import json

import numpy as np
import pytest
import torch

from storylm.config.errors import CheckpointError, DataError, UsageError
from storylm.evaluation.damage import DAMAGES
from storylm.evaluation.judge.examples import examples
from storylm.evaluation.judge.features import summarise
from storylm.evaluation.judge.learned import HEADS, LearnedJudge, fit
from storylm.evaluation.judge.ranking import auc, in_order
from storylm.model.llama2c import read_llama2c
from storylm.text.tokenizer import Tokenizer

KINDS = ("swapped words", "shuffled sentences")


def test_features_are_mean_spread_and_last_of_the_states(model, letters):
    stories = ["A cat sat.", "The longer story of two."]
    found = summarise(model, letters, stories)
    for row, story in zip(found.features_SF, stories, strict=True):
        stream = torch.tensor([[letters.start_id, *letters.encode(story), letters.end_id]])
        hidden_TD = model.hidden(stream[:, :-1])[0].detach().double()
        nats_T = -torch.log_softmax(model(stream[:, :-1])[0].double(), -1)[
            range(len(hidden_TD)), stream[0, 1:]
        ].detach()
        by_hand = torch.cat([hidden_TD.mean(0), hidden_TD.std(0, correction=0), hidden_TD[-1]])
        assert np.allclose(row[:-2], by_hand, atol=1e-5)
        assert np.allclose(row[-2:], [nats_T.mean(), nats_T.std(correction=0)], atol=1e-5)
    assert found.sizes.tolist() == [10, 24]


def test_examples_are_what_damage_changed_and_nothing_else():
    stories = ["Tom was sad. He saw Ann. Then Tom was glad.", "It ran."]
    found = examples(stories, seed=3)
    assert [(one.source, one.kind, one.severity) for one in found[:2]] == [(0, None, 0.0), (1, None, 0.0)]
    assert all(one.text != stories[one.source] and 0 < one.severity <= 1 for one in found[2:])
    assert {one.kind for one in found if one.source == 0} == {None, *DAMAGES}
    assert {one.severity for one in found if one.kind == "cut off"} == {1.0}  # cut or not: there is no more or less
    assert found == examples(stories, seed=3)


def test_figures_of_ranking_by_hand():
    found = examples(["Tom was sad. It is he. They are glad and were."], ["broken agreement"])
    severities = np.array([one.severity for one in found])
    assert in_order(severities, found) == 1
    assert in_order(-severities, found) == 0
    assert in_order(np.zeros(len(found)), found) == 0.5
    assert auc(np.array([1.0, 2, 3, 3]), np.array([False, True, False, True])) == (1 + 0.5 + 0 + 1) / 4
    assert np.isnan(auc(np.ones(2), np.array([True, True])))


def test_heads_find_what_is_there_and_leave_out_what_is_not():
    generator = np.random.default_rng(0)
    severity = np.where(generator.random(600) < 0.8, generator.random(600), 0.0)  # few are sound
    features = np.stack([severity * 3 + 5, generator.normal(size=600), np.full(600, 7.0)], axis=1)
    found = fit(features, severity)(features)
    assert auc(found[:, 0], severity > 0) > 0.99
    assert np.corrcoef(found[:, 1], severity)[0, 1] > 0.99
    assert ((found >= 0) & (found <= 1)).all()
    with pytest.raises(DataError, match="both"):
        fit(features, severity * 0)


@pytest.fixture(scope="module")
def judge(shared, train_stories) -> LearnedJudge:
    folder = shared / "reference" / "stories260K"
    network, words = read_llama2c(folder / "stories260K.bin"), Tokenizer.load(str(folder / "tok512.model"))
    return LearnedJudge.learn(network, words, examples(train_stories[:150], KINDS), {"model": "stories260K"})


def test_it_tells_damaged_stories_it_has_not_seen(judge, valid_stories):
    found = examples(valid_stories[:40], KINDS, seed=1)
    scores = judge.grade([one.text for one in found])
    assert auc(scores[:, 0], np.array([one.kind is not None for one in found])) > 0.8
    assert in_order(scores[:, 1], found) > 0.75


def test_a_saved_judge_is_the_same(judge, tmp_path, valid_stories):
    judge.save(tmp_path / "judge")
    again = LearnedJudge.load(tmp_path / "judge")
    assert np.allclose(again.grade(valid_stories[:5]), judge.grade(valid_stories[:5]), atol=1e-6)
    assert again.about == judge.about
    assert again.about["damages"] == sorted(KINDS)
    judge.save(tmp_path / "judge")  # a judge may be replaced
    with pytest.raises(DataError, match="story 2 is empty"):
        judge.grade(["A.", ""])
    for name in ("notes.txt", "model"):
        (tmp_path / name).mkdir()
        (tmp_path / name / ("config.json" if name == "model" else "mine.txt")).write_text("{}")
        with pytest.raises(UsageError, match="something else"):
            judge.save(tmp_path / name)
    (tmp_path / "judge" / HEADS).write_bytes(b"no")
    with pytest.raises(CheckpointError, match="damaged"):
        LearnedJudge.load(tmp_path / "judge")
    with pytest.raises(CheckpointError, match="--learn"):
        LearnedJudge.load(tmp_path)
    json.loads((tmp_path / "judge" / "judge.json").read_text())
