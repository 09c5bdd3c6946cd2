import json
import math

from storylm.evaluation.measure import Measure


def test_what_is_no_number_is_null():
    row = Measure("x", math.inf, "lower", (math.nan, 2), None).to_json()
    assert json.loads(json.dumps(row, allow_nan=False)) == {
        "name": "x",
        "value": None,
        "interval": [None, 2.0],
        "direction": "lower",
        "reference": None,
    }


def test_what_was_written_is_read():
    whole = Measure("x", 1.5, "higher", (1.0, 2.0), 1.25)
    assert Measure.from_json(json.loads(json.dumps(whole.to_json()))) == whole
    assert Measure.from_json(Measure("x", None, "reference").to_json()) == Measure("x", None, "reference")
    low, high = Measure.from_json(Measure("x", 1.0, "lower", (math.nan, 2)).to_json()).interval
    assert math.isnan(low)
    assert high == 2
