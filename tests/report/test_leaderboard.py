"""Tables of a leaderboard: what stands beside what."""

from types import SimpleNamespace

from storylm.evaluation.measure import Measure
from storylm.report.leaderboard import _measured, everything, telling


def board(*references: float):
    """Models whose MAUVE is 0.9, with these references."""
    places = []
    for number, reference in enumerate(references):
        measures = [Measure("mauve", 0.9, "higher", None, reference)]
        findings = SimpleNamespace(
            measures=measures, measure=lambda name, m=measures: m[0] if name == "mauve" else None
        )
        places.append(SimpleNamespace(entry=SimpleNamespace(short=f"model {number}", findings=findings)))
    return SimpleNamespace(places=places, questions=SimpleNamespace(stories=100))


def test_stories_cut_short_stand_beside_real_ones_cut_short():
    tables = board(0.91, 0.92, 0.99)
    assert [row[-1] for row in telling(tables).rows] == ["0.900", "0.900", "0.900 (0.990)", "0.910"]
    assert everything(tables).rows[0][1:5] == ["0.9000", "0.9000", "0.9000 (0.9900)", "0.9100"]


def test_speeds_of_different_days_are_told_apart():
    findings = [SimpleNamespace(asked=f"2026-11-{day}T10:00:00+00:00") for day in (21, 22, 22)]
    places = [SimpleNamespace(entry=SimpleNamespace(findings=each)) for each in findings]
    assert _measured(SimpleNamespace(places=places[1:])) == "measured on 2026-11-22"
    assert _measured(SimpleNamespace(places=places)).startswith("measured on 2026-11-21 and 2026-11-22, when")
