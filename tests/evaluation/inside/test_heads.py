"""Heads: the figures by their definition, one query and key at a time; and on attention whose kind is known."""

import pytest
import torch

from evaluation.inside.conftest import STORIES
from storylm.config.errors import DataError
from storylm.evaluation.inside import heads
from storylm.evaluation.inside.heads import FROM, look_at_heads
from storylm.generation.attention_maps import attention_maps


def by_hand(maps: list) -> tuple[float, float, float]:
    """The figures of one head, from its attention in each text as lists: sums over queries and keys, no tensors."""
    kernel = {}
    for attention in maps:
        for query in range(FROM, len(attention)):
            for key in range(query + 1):
                total, count = kernel.get(query - key, (0.0, 0))
                kernel[query - key] = (total + attention[query][key], count + 1)
    queries, where, start, far = 0, 0.0, 0.0, 0.0
    for attention in maps:
        for query in range(FROM, len(attention)):
            row = attention[query]
            usual = [kernel[query - key][0] / kernel[query - key][1] for key in range(query + 1)]
            where += sum(min(row[key], usual[key] / sum(usual)) for key in range(query + 1))
            start += row[0]
            far += sum(row[key] * (query - key) for key in range(query + 1))
            queries += 1
    return where / queries, start / queries, far / queries


def test_figures_are_those_of_the_definition(model, letters):
    found = {(head.layer, head.head): head for head in look_at_heads(model.train(), letters, STORIES)}
    assert model.training
    assert len(found) == model.config.layers * model.config.heads
    maps = [attention_maps(model, [letters.start_id, *letters.encode(story)]).tolist() for story in STORIES]
    for (layer, head), figures in found.items():
        shares = by_hand([of_text[layer][head] for of_text in maps])
        assert (figures.by_distance, figures.on_start, figures.mean_distance) == pytest.approx(shares, abs=1e-5)


def test_heads_of_known_kinds(model, letters, monkeypatch):
    """The first looks two back, the second at spaces, the rest at the start."""

    def maps(model, tokens):
        size = len(tokens)
        back, blank, start = torch.zeros(3, size, size)
        for query in range(size):
            back[query, max(0, query - 2)] = 1
            spaces = [key for key in range(query + 1) if tokens[key] == ord(" ")] or [0]
            blank[query, spaces] = 1 / len(spaces)
            start[query, 0] = 1
        rest = [start] * (model.config.heads - 2)
        return torch.stack([torch.stack([back, blank, *rest])] * model.config.layers)

    monkeypatch.setattr(heads, "attention_maps", maps)
    found = look_at_heads(model, letters, STORIES)
    assert [head.by_distance for head in found] == sorted((head.by_distance for head in found), reverse=True)
    kinds = {head.name: head for head in found if head.layer == 0}
    assert kinds["1.1"].kind == "distance"
    assert kinds["1.1"].by_distance == pytest.approx(1, abs=1e-6)
    assert kinds["1.1"].mean_distance == 2
    assert kinds["1.2"].kind == "semantic"
    assert kinds["1.3"].kind == "resting"
    assert kinds["1.3"].on_start == 1


def test_stories_too_short_are_refused(model, letters):
    with pytest.raises(DataError, match=f"none has {FROM + 1} tokens"):
        look_at_heads(model, letters, ["A cat."])
