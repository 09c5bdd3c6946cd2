"""A model to the Hugging Face Hub: the folder of `--format hf` with its card, private unless asked otherwise.

Who one is comes from `hf auth login` or the variable HF_TOKEN, which huggingface_hub reads; it is never shown or kept.
"""

import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from storylm.config.errors import DataError, SetupError, UsageError
from storylm.export.card import CARD, has_own_words, model_card, renamed
from storylm.export.exporting import export
from storylm.export.packages import package
from storylm.export.provenance import Provenance, provenance
from storylm.model.store import load

_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


def push(
    folder: Path, repo: str, *, public: bool = False, license: str | None = None, figures: Path | None = None
) -> str:
    """Upload the model in `folder` as the repository `repo`, OWNER/NAME, and return its address.

    A new repository is private unless `public`; one that exists stays as it is and gets a new commit. A README.md that
    a person wrote in the folder goes along; else a card is written, with the `license` (a name of the Hub's, as "mit")
    and with the `figures` that judging wrote (`export.figures`).

    >>> push(Path("runs/story-5m/checkpoints/best"), "someone/stories")             # doctest: +SKIP
    'https://huggingface.co/someone/stories'

    Raises:
        UsageError: no such name, or a license beside a README.md that has its own.
        SetupError: no huggingface_hub, no network, not logged in.
        DataError: the Hub refuses it.
    """
    if not _NAME.fullmatch(repo):
        raise UsageError(f"{repo!r} is no name of a repository: give OWNER/NAME, as in someone/stories-5m")
    card = folder / CARD
    hub = package("huggingface_hub", extra="hub")
    model, tokenizer = load(folder)
    origin = provenance(folder, model, figures)
    # One that an export wrote knows more than can be found out about its folder.
    goes_along = has_own_words(card) or (card.is_file() and origin == Provenance())
    if license and goes_along:
        raise UsageError(f"{card} is there already and goes along: write license: {license} at its top instead")
    if goes_along:
        text = renamed(card.read_text(encoding="utf-8"), folder.name, repo)
    else:
        text = model_card(model.config, tokenizer, repo, origin, license)
    if not sys.stderr.isatty():
        package("huggingface_hub.utils", extra="hub").disable_progress_bars()
    with TemporaryDirectory(prefix="storylm-push-") as temporary:
        out = Path(temporary) / "model"
        export(model, tokenizer, "hf", out)
        (out / CARD).write_text(text, encoding="utf-8", newline="\n")
        try:
            client = hub.HfApi(library_name="storylm")
            address = client.create_repo(repo, private=not public, exist_ok=True)
            client.upload_folder(repo_id=repo, folder_path=out, commit_message="Upload by storylm")
        except Exception as error:  # dozens of kinds, which change from version to version
            raise _explained(error, repo) from error
    return str(address)


def _explained(error: Exception, repo: str) -> Exception:
    errors = package("huggingface_hub.errors", extra="hub")
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.LocalTokenNotFoundError) or status == 401:
        return SetupError(f"the Hub does not know you: run `hf auth login`, or set HF_TOKEN ({reason})")
    if status == 403:
        return SetupError(f"you may not write to {repo}: log in as its owner, with a token that may write ({reason})")
    if status is not None and 400 <= status < 500:
        return DataError(f"the Hub refuses {repo}: {reason}")
    return SetupError(f"cannot push {repo} to the Hub ({reason}): check the network, and run the command again")
