"""`storylm generate --words ...`: a story to order."""

import pytest

from cli.telling import call, small_model
from storylm.cli.generate import generate
from storylm.config.errors import UsageError


def test_the_order_is_the_prompt(tmp_path):
    folder = small_model(tmp_path / "small")
    order = ["--words", "sun, run", "--features", "Dialogue", "--sentence", "It sat."]
    done = call(generate, folder, *order, "--max-new-tokens", "3", "--seed", "4", "--truncate", "left")
    prompt = "Features: Dialogue\nWords: sun, run\nRandom sentence: It sat.\nStory: \n\n"
    same = call(generate, folder, "--prompt", prompt, "--max-new-tokens", "3", "--seed", "4", "--truncate", "left")
    assert done.stdout == same.stdout
    assert done.stdout.startswith(prompt)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (["--features", "Dialog"], "no feature 'Dialog'"),
        (["--words", " , "], "nothing is ordered"),
        (["--words", "sun", "--prompt", "Once"], "leave out --prompt"),
    ],
)
def test_orders_that_make_no_sense_are_refused(wrong, words):
    with pytest.raises(UsageError, match=words):
        call(generate, "grammar-1m", *wrong)
