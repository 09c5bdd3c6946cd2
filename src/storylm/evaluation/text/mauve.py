"""MAUVE: how near the distribution of told stories is to that of real ones (Pillutla et al. 2021).

Stories become points, here the mean hidden state of one of our models over a story (the authors take the last
token's of GPT-2); points of both kinds are clustered together, and the two histograms over clusters compared by the
area under the curve of their divergences to all mixtures. Settings as published: principal components that explain
90 % of the variance, a cluster for every ten points, scaling 5. The figure depends on the features and on how many
stories there are: compare only like with like.
"""

# P points, Q points of the other kind, D features, K clusters

import numpy as np
import torch

from storylm.evaluation.likelihood import Scored

SCALE = 5.0
EXPLAINED = 0.9
MIXTURES = 25
_ROUNDS, _STARTS = 100, 5


class MeanState:
    """A listener of `likelihood.evaluate`: the mean hidden state of each story, [S, D]."""

    def __init__(self) -> None:
        self._sums: dict[int, np.ndarray] = {}
        self._counts: dict[int, int] = {}

    def story(self, number: int, text: str, scored: str) -> None:
        self._sums[number], self._counts[number] = np.zeros(1), 0

    def tokens(self, scored: Scored) -> None:
        hidden_ND = scored.hidden.float().cpu().numpy().astype(np.float64)
        stories, index_N = np.unique(scored.stories, return_inverse=True)
        sums_SD = np.zeros((len(stories), hidden_ND.shape[1]))
        np.add.at(sums_SD, index_N, hidden_ND)
        for story, sums, count in zip(stories, sums_SD, np.bincount(index_N), strict=True):
            self._sums[int(story)] = self._sums[int(story)] + sums
            self._counts[int(story)] += int(count)

    @property
    def features(self) -> np.ndarray:
        """One row a story, in their order."""
        return np.array([self._sums[story] / self._counts[story] for story in sorted(self._sums)])


def mauve(told_PD: np.ndarray, real_QD: np.ndarray, seed: int = 0) -> float:
    """From near 0 (nothing in common) to 1 (the same distribution).

    >>> points = np.random.default_rng(0).normal(size=(200, 8))
    >>> round(mauve(points, points), 6), mauve(points, points + 9) < 0.02
    (1.0, True)
    """
    clusters = max(2, round(min(len(told_PD), len(real_QD)) / 10))
    points = np.concatenate([told_PD, real_QD])
    points = points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-12)
    labels = k_means(principal(points), clusters, seed)
    told_K, real_K = (np.bincount(some, minlength=clusters) for some in np.split(labels, [len(told_PD)]))
    return area(told_K / told_K.sum(), real_K / real_K.sum())


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
