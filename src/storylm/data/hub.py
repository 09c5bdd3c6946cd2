"""Datasets of the Hugging Face Hub, file by file: what is in one, and bringing a file here.

With `HF_HUB_OFFLINE=1` only what is in the local cache is there.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storylm.config.errors import DataError, SetupError


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a dataset at one commit. `content`: its hash as the Hub states it, SHA-256 or (small files) git's."""

    repo: str
    commit: str
    path: str
    size: int | None
    content: str

    @property
    def name(self) -> str:
        return self.path

    @property
    def identity(self) -> str:
        """The same wherever the file lies, until its content changes."""
        return f"hub:{self.repo}/{self.path}@{self.content}"

    def local(self) -> Path:
        """The file in the local cache, downloaded if it is not there."""
        return download(self)


def list_files(repo: str, revision: str | None = None) -> list[HubFile]:
    """The dataset's files, by name.

    Raises:
        DataError: there is no such dataset or revision.
        SetupError: no network, no permission, huggingface_hub not installed.
    """
    hub = _hub()
    if hub.constants.HF_HUB_OFFLINE:
        return _cached_files(repo, revision)
    try:
        info = hub.HfApi().dataset_info(repo, revision=revision, files_metadata=True)
    except Exception as error:
        raise _explained(error, repo, revision) from error
    return [
        HubFile(
            repo,
            info.sha or "main",
            file.rfilename,
            file.size,
            file.lfs.sha256 if file.lfs else file.blob_id or info.sha or "",
        )
        for file in sorted(info.siblings or [], key=lambda file: file.rfilename)
    ]


def download(file: HubFile) -> Path:
    """Bring one file here; interrupted downloads go on, finished ones are not repeated."""
    try:
        path = _hub().hf_hub_download(file.repo, file.path, repo_type="dataset", revision=file.commit)
    except SetupError:
        raise
    except Exception as error:
        raise _explained(error, file.repo, file.commit) from error
    return Path(path)


def _cached_files(repo: str, revision: str | None) -> list[HubFile]:
    hub = _hub()
    try:
        repos = hub.scan_cache_dir(hub.constants.HF_HUB_CACHE).repos
    except hub.errors.CacheNotFound:
        repos = frozenset()
    cached = next((entry for entry in repos if entry.repo_type == "dataset" and entry.repo_id == repo), None)
    revisions = [
        entry
        for entry in (cached.revisions if cached else ())
        if revision is None or revision in (entry.commit_hash, *entry.refs)
    ]
    if not revisions:
        raise SetupError(
            f"dataset {repo} is not in the local cache and HF_HUB_OFFLINE is set: unset it, or give a local path"
        )
    newest = max(revisions, key=lambda entry: (revision is None and "main" in entry.refs, entry.last_modified))
    files = (
        HubFile(
            repo,
            newest.commit_hash,
            file.file_path.relative_to(newest.snapshot_path).as_posix(),
            file.size_on_disk,
            file.blob_path.name,
        )
        for file in newest.files
    )
    return sorted(files, key=lambda file: file.path)


def _explained(error: Exception, repo: str, revision: str | None) -> DataError | SetupError:
    """One line for whatever the Hub's client raised; its kinds of network errors change from version to version."""
    errors = _hub().errors
    if isinstance(error, errors.GatedRepoError):
        return SetupError(f"dataset {repo} is gated: accept its terms on its page, then run `hf auth login`")
    if isinstance(error, errors.RevisionNotFoundError):
        return DataError(f"dataset {repo} has no revision {revision}")
    if isinstance(error, errors.RepositoryNotFoundError | errors.HFValidationError):
        return DataError(f"no dataset {repo} on the Hub, nor a file or folder of that name (private: `hf auth login`)")
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return SetupError(
        f"cannot get dataset {repo} from the Hub ({reason}): check the network, set HF_HUB_OFFLINE=1 to use what is"
        " cached, or give a local path"
    )


def _hub() -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.constants
        import huggingface_hub.errors
    except ImportError as error:
        raise SetupError("the Hub needs huggingface_hub: pip install 'storylm[hub]'") from error
    return huggingface_hub
