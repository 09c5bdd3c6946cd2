"""From a corpus to a folder of tokens: read and clean (in parallel), choose (in order), encode (in parallel).

Interrupted at any time, the same call goes on where it stopped. The result does not depend on how many processes
made it. The steps are in `preparing.steps`.
"""

import sys
from pathlib import Path

from storylm.config.errors import DataError, UsageError
from storylm.config.files import cache_folder
from storylm.config.model import ModelConfig
from storylm.config.schema import CleaningConfig, DataConfig, RunConfig
from storylm.data.cache import locked, to_be_written
from storylm.data.orders import PLAIN, Orders
from storylm.data.prepared import MANIFEST, SPLITS, Prepared, read_manifest
from storylm.data.preparing.plan import OWN, Plan
from storylm.data.preparing.pool import Pool
from storylm.data.preparing.progress import ConsoleProgress, Watch
from storylm.data.preparing.steps import KEY, carry_out, empty, refuse_foreign
from storylm.data.preparing.tasks import Executor
from storylm.data.sources import Source, existing
from storylm.text.tokenizer import Tokenizer


def prepare(
    source: str | Source,
    tokenizer: str | Tokenizer,
    out: str | Path,
    cleaning: CleaningConfig | None = None,
    *,
    validation: str | Source | None = None,
    validation_share: float = 0.02,
    vocab_size: int | None = None,
    max_stories: int | None = None,
    orders: Orders = PLAIN,
    workers: int | None = None,
    executor: Executor | None = None,
    progress: Watch | None = None,
) -> Prepared:
    """Clean and tokenize a corpus into the folder `out`. What is done already is not done again.

    Args:
        source: what `open_source` takes.
        tokenizer: "bpe" trains one of `vocab_size` on the stories; else what `Tokenizer.load` takes.
        validation: stories for validation; None: the source's own, or `validation_share` of train.
        max_stories: read only the first so many of train, in one process.
        orders: what stands before each story: nothing, the order it came with, or one derived from it.
        workers: processes (None: one for each core, or none but this one for a small corpus).
        executor: who reads and encodes, if not processes of this machine: see `preparing.executors.executor_of`.
        progress: told several times a second how it goes, e.g. `ConsoleProgress()`.

    >>> prepare("grammar?stories=5000", "bpe", "stories", vocab_size=1024).stories("train")     # doctest: +SKIP
    4987

    Raises:
        DataError: nothing to read, or nothing left after cleaning.
        UsageError: `out` holds something else.
        SetupError: the disk is full, or `out` cannot be written to; a worker died; tasks of `executor` failed.
    """
    plan = Plan.of(
        source,
        tokenizer,
        cleaning or CleaningConfig(),
        validation,
        validation_share,
        vocab_size or ModelConfig.model_fields["vocab_size"].default,
        max_stories,
        orders,
    )
    with to_be_written(Path(out)):
        refuse_foreign(Path(out))
    with locked(Path(out), f"waiting for another process that prepares {out}"):
        return carry_out(plan, Path(out), executor or Pool(workers), progress)


def prepare_cached(config: RunConfig, quiet: bool = False) -> Prepared:
    """The stories of a run, prepared once and kept (`data.cache`). `data.source` may be a prepared folder, too.

    `quiet` leaves out the lines on what they are, for a caller that will ask for them again.

    Raises:
        DataError, SetupError: as `prepare`; and DataError for a prepared folder with a single byte changed.
        UsageError: a prepared folder that does not fit the settings.
    """
    data = config.data
    given = existing(data.source)
    if given is not None and read_manifest(given) is not None:
        return _told(_given(given, config), quiet)
    if given is not None and (given / KEY).is_file():
        raise DataError(f"preparing {given} was not finished: run the same `storylm prepare` again")
    plan = Plan.of(
        data.source,
        config.tokenizer,
        data.cleaning,
        data.validation,
        data.validation_share,
        config.model.vocab_size,
        data.max_stories,
        Orders(data.format, data.derive_seed),
    )
    folder = cache_folder() / "prepared" / plan.key
    with locked(folder, f"waiting for another run that prepares {data.source}"):
        if (folder / MANIFEST).exists():
            try:
                prepared = Prepared.load(folder, verify=True)
                assert prepared.tokenizer.fingerprint  # raises where the tokenizer is damaged
            except DataError as error:
                _say(f"warning: {error}\nwarning: preparing the stories of {data.source} anew")
                empty(folder)
            else:
                if not quiet:
                    _say(f"using the stories of {data.source} prepared in {folder}")
                return _told(prepared, quiet)
        _say(f"preparing the stories of {data.source} (once; kept in {folder})")
        with ConsoleProgress() as progress:
            prepared = carry_out(plan, folder, Pool(), progress)
    return _told(prepared, quiet)


def _given(folder: Path, config: RunConfig) -> Prepared:
    """A prepared folder that was given as the source. What it cannot follow any more is refused, not ignored."""
    prepared, data = Prepared.load(folder, verify=True), config.data
    made = prepared.manifest["settings"]
    asked = {
        "data.validation": data.validation is not None,
        "data.max_stories": data.max_stories is not None,
        "data.format": data.format != DataConfig().format
        and Orders(data.format, data.derive_seed).name != made.get("orders"),
        "data.cleaning": data.cleaning.model_dump(mode="json")
        not in (made["cleaning"], CleaningConfig().model_dump(mode="json")),
        "data.validation_share": data.validation_share not in (made["validation_share"], DataConfig().validation_share),
    }
    for setting, given in asked.items():
        if given:
            raise UsageError(f"{folder} is prepared already: {setting} decides how stories are prepared, leave it out")
    made_with = made["tokenizer"]
    # A name that stands for the same thing everywhere ("gpt2") need not be fetched to be compared.
    alike = config.tokenizer == OWN or (config.tokenizer == made_with and not Path(made_with).exists())
    if not alike and Tokenizer.load(config.tokenizer).fingerprint != prepared.tokenizer.fingerprint:
        raise UsageError(
            f"{folder} was made with another tokenizer ({made_with}) than {config.tokenizer!r}: leave out the"
            " tokenizer, or prepare the stories again with it"
        )
    return prepared


def _told(prepared: Prepared, quiet: bool) -> Prepared:
    """The same, after a line on stderr for each split: nothing is left out of a run unseen."""
    for split in () if quiet else SPLITS:
        if (report := prepared.report(split)).read:
            _say(f"{split}: {report.line()}")
    return prepared


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
