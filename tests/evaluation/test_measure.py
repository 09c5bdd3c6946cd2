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
