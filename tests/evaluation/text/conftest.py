"""Stories as the metrics take them."""

from collections.abc import Callable

import pytest

from storylm.evaluation.text.metric import Told


@pytest.fixture(scope="session")
def told() -> Callable[..., list[Told]]:
    """Texts as stories with nothing given."""
    return lambda *texts: [Told("", text) for text in texts]
