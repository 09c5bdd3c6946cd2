"""Zero-shot tasks of EleutherAI's LM Evaluation Harness (lm-eval), as BLiMP and LAMBADA, asked of a model of ours.

What is asked and how it is counted is lm-eval's, and so is the model that answers: ours as transformers reads its
folder. The data of a task come from the Hugging Face Hub, once.
"""

import json
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

from storylm.config.errors import SetupError, UsageError
from storylm.evaluation.measure import Direction, Measure
from storylm.model.store import write_model_files
from storylm.model.transformer import Transformer
from storylm.text.files import JSON
from storylm.text.tokenizer import Tokenizer

REPETITIONS = 1000  # of the bootstrap behind the standard errors of what is no mean, as perplexity
SURE = 1.959964  # standard errors, 95 %


@dataclass(frozen=True)
class ZeroShot:
    """What came of tasks: their figures, each with its interval of 95 %; by task, all that lm-eval says, standard
    errors among it; and why a task was left out."""

    measures: list[Measure] = field(default_factory=list)
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As JSON's types."""
        return {"lm_eval": version("lm-eval"), "tasks": self.results, "left_out": self.left_out}


class Tasks:
    """Tasks, and groups and tags of them, by their names in lm-eval, or by the .yaml files of further ones.

    Raises:
        SetupError: the extra `harness` is not installed.
        UsageError: there is no such task.
    """

    def __init__(self, names: Sequence[str]):
        for module in ("lm_eval", "transformers", "accelerate"):
            if find_spec(module) is None:
                raise SetupError(f"zero-shot tasks need {module}: pip install 'storylm[harness]'")
        self.names = list(dict.fromkeys(names))
        files = [name for name in self.names if Path(name).suffix in (".yaml", ".yml")]
        self._manager = _lm_eval("tasks").TaskManager(include_defaults=len(files) < len(self.names))
        for name in self.names:
            if name in files and not Path(name).is_file():
                raise UsageError(f"no file {name} of a task")
            if name not in files and name not in self._manager.all_tasks:
                close = get_close_matches(name, self._manager.all_tasks, 1)
                hint = f"did you mean {close[0]!r}?" if close else "`lm-eval ls tasks` has their names"
                raise UsageError(f"lm-eval has no task {name!r}: {hint}")

    def ask(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        limit: int | None = None,
        batch_size: int = 16,
        progress: Callable[[str], None] = lambda name: None,
    ) -> ZeroShot:
        """Ask all of them, of each task (each of those of a group) the first `limit` questions.

        A task whose data cannot be had is left out, and it is said why. `progress` is told which comes next.

        Raises:
            UsageError: transformers has no class for such a model.
        """
        found = ZeroShot()
        with tempfile.TemporaryDirectory() as folder:
            write_model_files(model, tokenizer, Path(folder))
            _begin_with_start(tokenizer, Path(folder) / JSON)
            device = str(next(model.parameters()).device)
            answering = _lm_eval("models.huggingface").HFLM(
                folder, device=device, dtype="float32", batch_size=batch_size
            )
            for name in self.names:
                progress(name)
                try:
                    with _no_warnings():
                        loaded = self._manager.load([name])
                except Exception as error:  # the kinds of network errors change from version to version
                    found.left_out[name] = _reason(error)
                    continue
                groups = list(loaded["groups"].values())[:1]  # of one name, the group itself and then those in it
                asked = groups[0].name if groups else name
                results = _lm_eval("evaluator").simple_evaluate(
                    model=answering,
                    tasks=groups or list(loaded["tasks"].values()),
                    task_manager=self._manager,
                    limit=limit,
                    bootstrap_iters=REPETITIONS,
                    log_samples=False,
                )
                assert results is not None, "there is one process"
                found.results.update(json.loads(json.dumps(results["results"], default=str)))
                chances = {task.task_name: _chance(task) for task in loaded["tasks"].values()}
                found.measures.extend(measures(results, asked, chances))
        return found


def measures(results: dict[str, Any], name: str, chances: Mapping[str, float | None]) -> list[Measure]:
    """The figures of a task or group among lm-eval's results; those of its tasks where it has none of its own.

    Beside the accuracy of choices stands chance, that of a group being the mean of its tasks'.
    """
    known = [chance for chance in chances.values() if chance is not None]
    of_group = sum(known) / len(known) if known and len(known) == len(chances) else None
    own = list(_figures(results, name, chances.get(name, of_group)))
    return own or [one for task in results["results"] for one in _figures(results, task, chances.get(task))]


def _figures(results: dict[str, Any], task: str, chance: float | None) -> Iterator[Measure]:
    row = results["results"].get(task, {})
    for key, value in row.items():
        metric, comma, form = key.partition(",")  # "acc,none": a metric, and what an answer was filtered by
        if not comma or metric.endswith("_stderr") or not isinstance(value, int | float):
            continue
        error = row.get(f"{metric}_stderr,{form}")
        interval = (value - SURE * error, value + SURE * error) if isinstance(error, int | float) else None
        higher = results["higher_is_better"].get(task, {}).get(metric, True)
        direction: Direction = "lower" if higher is False else "higher"
        name = "_".join([task, metric, *([] if form == "none" else [form])])
        yield Measure(name, float(value), direction, interval, chance if metric in ("acc", "acc_norm") else None)


def _chance(task: Any) -> float | None:
    """Of choosing at random, as far as the first questions tell; None where nothing is chosen."""
    if task.OUTPUT_TYPE != "multiple_choice":
        return None
    counts = [len(task.doc_to_choice(question)) for question in islice(task.eval_docs, 100)]
    return sum(1 / count for count in counts) / len(counts)


def _lm_eval(module: str) -> Any:
    """Of an extra whose types change from version to version."""
    return import_module(f"lm_eval.{module}")


def _begin_with_start(tokenizer: Tokenizer, path: Path) -> None:
    """Have transformers put the start token before a text, as it is before every story that the model learnt from."""
    import tokenizers
    from tokenizers.processors import TemplateProcessing

    start = tokenizer.start
    reader = tokenizers.Tokenizer.from_file(str(path))
    reader.post_processor = TemplateProcessing(
        single=[start, "$A"], pair=[start, "$A", "$B"], special_tokens=[(start, tokenizer.start_id)]
    )
    reader.save(str(path))


@contextmanager
def _no_warnings() -> Iterator[None]:
    """Without a network the Hub's client tells of every attempt; the reason that it gives in the end is told."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _reason(error: Exception) -> str:
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return f"its data cannot be had ({first[:200]}): they come from the Hub once, and are kept"
