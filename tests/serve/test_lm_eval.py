"""lm-eval as a client: its `local-completions`, on tasks written here, against figures of our own."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import storylm
from evaluation.zero_shot_tasks import QUESTIONS, SENTENCES, own_nats, write_tasks
from export.conftest import needed
from reliability.visitors import MODEL, server
from storylm.evaluation.likelihood import evaluate

needed("lm_eval")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # theirs, of many kinds
SEED = 77


@pytest.fixture(scope="module")
def answers(tmp_path_factory) -> Iterator[Callable[[str], list[dict[str, Any]]]]:
    """Asks a task; its questions with what was answered."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    folder = tmp_path_factory.mktemp("tasks")
    write_tasks(folder)
    model, tokenizer = storylm.load(MODEL)
    assert tokenizer is not None
    storylm.save(model, tokenizer, folder / "model")
    with pytest.MonkeyPatch.context() as patch, server() as running:
        patch.setenv("HF_HOME", str(folder / "hf"))
        patch.setattr("datasets.config.HF_DATASETS_CACHE", folder / "hf")

        def ask(task: str) -> list[dict[str, Any]]:
            result = simple_evaluate(
                model="local-completions",
                model_args={
                    "model": MODEL,
                    "base_url": f"http://127.0.0.1:{running.port}/v1/completions",
                    "tokenizer": str(folder / "model"),
                    "num_concurrent": 2,
                    "max_length": model.config.context,
                    "seed": SEED,
                },
                tasks=[task],
                task_manager=TaskManager(include_path=str(folder), include_defaults=False),
                bootstrap_iters=0,
                log_samples=True,
            )
            assert result is not None
            return sorted(result["samples"][task], key=lambda sample: sample["doc_id"])

        yield ask


def test_choices_are_scored_as_the_model_scores_them(answers) -> None:
    """And said to be greedy where they are what the model would have told."""
    pairs = [(text, choice) for text, choices, _ in QUESTIONS for choice in choices]
    found = [response for sample in answers("choosing") for (response,) in sample["resps"]]
    assert [-nats for nats, _ in found] == pytest.approx(own_nats(MODEL, pairs).tolist(), abs=1e-3)
    told = storylm.generate(*storylm.load(MODEL), [text for text, _ in pairs], temperature=0, max_new_tokens=12)
    expected = [story.startswith(f"{text} {choice}") for story, (text, choice) in zip(told, pairs, strict=True)]
    assert [greedy for _, greedy in found] == expected
    assert len(set(expected)) == 2


def test_whole_texts_are_scored_from_their_first_token(answers) -> None:
    found = [-sample["resps"][0][0] for sample in answers("whole")]
    model, tokenizer = storylm.load(MODEL)
    expected = [evaluate(model, tokenizer, [sentence]).nats for sentence in SENTENCES]
    assert found == pytest.approx(expected, abs=1e-3)


def test_stories_are_told_by_the_seed_to_the_stop_string(answers) -> None:
    found = [sample["resps"][0][0] for sample in answers("telling")]
    told = storylm.generate(
        *storylm.load(MODEL), SENTENCES, temperature=0.9, seed=SEED, stop=[".", "!"], max_new_tokens=30
    )
    assert found == [story[len(sentence) :] for story, sentence in zip(told, SENTENCES, strict=True)]
    assert len(set(found)) == len(found)
