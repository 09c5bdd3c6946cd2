"""MAUVE: how near the distribution of told stories is to that of real ones (Pillutla et al. 2021).

Stories become points: the hidden state of one of our models at the end of a story (the authors take GPT-2's). Points
of both kinds are clustered together, and the two histograms over clusters compared by the area under the curve of
their divergences to all mixtures. Settings as published: principal components that explain 90 % of the variance, a
cluster for every ten points, scaling 5. Clusters of few points are a matter of chance, so the figure is the mean of
ten clusterings. It depends on the features and on how many stories there are: compare only like with like. The mean
state of a story instead of the last would hardly notice sentences out of order.
"""

# P points, Q points of the other kind, D features, K clusters

import numpy as np
import torch

from storylm.evaluation.likelihood import Scored

SCALE = 5.0
EXPLAINED = 0.9
MIXTURES = 25
CLUSTERINGS = 10
LEAST = 20
"""Stories of either kind; fewer make no two clusters of ten."""
_ROUNDS, _STARTS = 100, 5


class LastState:
    """A listener of `likelihood.evaluate`: the hidden state after each story's last scored token, [S, D]."""

    def __init__(self) -> None:
        self._states: dict[int, np.ndarray] = {}
        self._places: dict[int, int] = {}

    def story(self, number: int, text: str, scored: str) -> None:
        self._places[number] = -1

    def tokens(self, scored: Scored) -> None:
        order = np.lexsort((scored.places, scored.stories))
        stories, firsts = np.unique(scored.stories[order], return_index=True)
        lasts = order[np.append(firsts[1:], len(order)) - 1]
        states_SD = scored.hidden[torch.from_numpy(lasts).to(scored.hidden.device)].float().cpu().numpy()
        for story, place, state in zip(stories.tolist(), scored.places[lasts].tolist(), states_SD, strict=True):
            if place > self._places[story]:
                self._places[story], self._states[story] = place, state.astype(np.float64)

    @property
    def features(self) -> np.ndarray:
        """One row a story, in their order."""
        return np.array([self._states[story] for story in sorted(self._states)])


def mauve(told_PD: np.ndarray, real_QD: np.ndarray, seed: int = 0) -> float | None:
    """From near 0 (nothing in common) to 1 (the same distribution); None for fewer than 20 points of either kind.

    >>> points = np.random.default_rng(0).normal(size=(200, 8))
    >>> round(mauve(points, points), 6), mauve(points, points + 9) < 0.02
    (1.0, True)
    """
    if min(len(told_PD), len(real_QD)) < LEAST:
        return None
    clusters = round(min(len(told_PD), len(real_QD)) / 10)
    points = np.concatenate([told_PD, real_QD])
    points = points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-12)
    points, areas = principal(points), []
    for start in range(CLUSTERINGS):
        labels = k_means(points, clusters, seed + start)
        told_K, real_K = (np.bincount(some, minlength=clusters) for some in np.split(labels, [len(told_PD)]))
        areas.append(area(told_K / told_K.sum(), real_K / real_K.sum()))
    return sum(areas) / len(areas)


def area(told_K: np.ndarray, real_K: np.ndarray) -> float:
    """The area under the divergence curve of two histograms."""
    weights = np.linspace(1e-6, 1 - 1e-6, MIXTURES)
    mixed = [weight * told_K + (1 - weight) * real_K for weight in weights]
    curve = np.array([(_divergence(real_K, one), _divergence(told_K, one)) for one in mixed])
    x, y = np.exp(-SCALE * np.concatenate([[[0, np.inf]], curve, [[np.inf, 0]]])).T
    # By both axes, and their mean: the curve is steep at one end.
    by_x, by_y = np.argsort(x, kind="stable"), np.argsort(y, kind="stable")
    return float((np.trapezoid(y[by_x], x[by_x]) + np.trapezoid(x[by_y], y[by_y])) / 2)


def _divergence(p_K: np.ndarray, q_K: np.ndarray) -> float:
    """Kullback-Leibler, in nats."""
    some = p_K > 0
    return float((p_K[some] * np.log(p_K[some] / q_K[some])).sum())


def principal(points_PD: np.ndarray) -> np.ndarray:
    """The first principal components, as many as explain 90 % of the variance."""
    centred = points_PD - points_PD.mean(axis=0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    explained = np.cumsum(sizes**2) / max(float((sizes**2).sum()), 1e-300)
    kept = int(np.searchsorted(explained, EXPLAINED)) + 1
    return (left * sizes)[:, :kept]


def k_means(points_PD: np.ndarray, clusters: int, seed: int) -> np.ndarray:
    """The cluster of each point, [P]: the best of five starts by k-means++ (Arthur and Vassilvitskii 2007)."""
    generator, best, chosen = np.random.default_rng(seed), np.inf, np.zeros(len(points_PD), int)
    for _ in range(_STARTS):
        centres = _spread_out(points_PD, clusters, generator)
        labels = np.full(len(points_PD), -1)
        for _ in range(_ROUNDS):
            distances = _distances(points_PD, centres)
            nearest = distances.argmin(axis=1)
            if np.array_equal(nearest, labels):
                break
            labels = nearest
            for cluster in np.unique(labels):
                centres[cluster] = points_PD[labels == cluster].mean(axis=0)
        total = float(distances.min(axis=1).sum())
        if total < best:
            best, chosen = total, labels
    return chosen


def _spread_out(points_PD: np.ndarray, clusters: int, generator: np.random.Generator) -> np.ndarray:
    centres = [points_PD[generator.integers(len(points_PD))]]
    for _ in range(clusters - 1):
        away = _distances(points_PD, np.array(centres)).min(axis=1)
        share = away / away.sum() if away.sum() else np.full(len(away), 1 / len(away))
        centres.append(points_PD[generator.choice(len(points_PD), p=share)])
    return np.array(centres)


def _distances(points_PD: np.ndarray, centres_KD: np.ndarray) -> np.ndarray:
    """Squared, [P, K]."""
    return torch.cdist(torch.from_numpy(points_PD), torch.from_numpy(centres_KD)).square().numpy()
