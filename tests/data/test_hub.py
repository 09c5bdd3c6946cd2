"""Datasets of the Hub, against a stand-in for the client: which files are chosen, and what is said when it fails."""

import io
import pickle
import sys
from types import SimpleNamespace

import pytest

from storylm.config.errors import DataError, SetupError, UsageError
from storylm.data import hub
from storylm.data.corpora import CORPORA
from storylm.data.records import ENDOFTEXT
from storylm.data.sources import open_source

errors = pytest.importorskip("huggingface_hub.errors")


def parquet(stories) -> bytes:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    file = io.BytesIO()
    pq.write_table(pa.table({"text": stories}), file)
    return file.getvalue()


class FakeHub:
    """What storylm uses of huggingface_hub, over a folder. `datasets`: repo -> revision -> path -> content."""

    def __init__(self, folder, datasets):
        self.folder, self.datasets, self.downloads = folder, datasets, []
        self.constants = SimpleNamespace(HF_HUB_OFFLINE=False)
        self.errors = errors
        self.HfApi = lambda: self

    def dataset_info(self, repo, revision=None, files_metadata=False):
        assert files_metadata  # else there are no sizes
        if repo not in self.datasets:
            raise errors.RepositoryNotFoundError("404", response=SimpleNamespace(headers={}, request=None))
        revisions = self.datasets[repo]
        if (revision or "main") not in revisions:
            raise errors.RevisionNotFoundError("404", response=SimpleNamespace(headers={}, request=None))
        siblings = [
            SimpleNamespace(rfilename=path, size=len(content), lfs=None, blob_id=f"hash of {len(content)}")
            for path, content in revisions[revision or "main"].items()
        ]
        return SimpleNamespace(sha=f"commit-{revision or 'main'}", siblings=siblings)

    def hf_hub_download(self, repo, path, repo_type, revision):
        assert repo_type == "dataset"
        self.downloads.append(path)
        file = self.folder / path.replace("/", "_")
        file.write_bytes(self.datasets[repo][revision.removeprefix("commit-")][path])
        return str(file)


@pytest.fixture
def fake(monkeypatch, tmp_path):
    def make(**datasets):
        client = FakeHub(tmp_path, {repo.replace("__", "/"): files for repo, files in datasets.items()})
        monkeypatch.setattr(hub, "_hub", lambda: client)
        return client

    return make


TINYSTORIES = {
    "main": {
        "README.md": b"Stories.",
        "TinyStories-train.txt": b"The same again as text.",
        "TinyStoriesV2-GPT4-train.txt": f"V2 a.\n{ENDOFTEXT}\nV2 b.".encode(),
        "TinyStoriesV2-GPT4-valid.txt": b"V2 c.",
        "data/train-00001-of-00002.parquet": b"second",
        "data/train-00000-of-00002.parquet": b"first",
        "data/validation-00000-of-00001.parquet": b"held out",
    }
}


def told(source, split):
    return [record.text for record in source.stories(split)]


def test_tinystories_v1_takes_the_parquet_files_in_order_and_downloads_nothing_yet(fake):
    files = TINYSTORIES["main"] | {
        "data/train-00000-of-00002.parquet": parquet(["One.", "Two."]),
        "data/train-00001-of-00002.parquet": parquet(["Three."]),
        "data/validation-00000-of-00001.parquet": parquet(["Four."]),
    }
    client = fake(roneneldan__TinyStories={"main": files})
    source = open_source("tinystories")
    assert source.splits == ("train", "validation")
    assert source.bytes("train") == sum(len(files[f"data/train-0000{i}-of-00002.parquet"]) for i in (0, 1))
    assert client.downloads == []
    assert told(source, "train") == ["One.", "Two.", "Three."]
    assert told(source, "validation") == ["Four."]
    assert len(client.downloads) == 3


def test_tinystories_v2_takes_the_text_files_of_gpt_4(fake):
    fake(roneneldan__TinyStories=TINYSTORIES)
    source = open_source("tinystories-v2")
    assert (told(source, "train"), told(source, "validation")) == (["V2 a.", "V2 b."], ["V2 c."])


def test_the_clean_corpus_has_its_splits_by_rows(fake):
    rows = [f"{i}." for i in range(20_003)]
    fake(karpathy__tinystories_gpt4_clean={})
    client = fake(**{"karpathy__tinystories-gpt4-clean": {"main": {"tinystories_gpt4_clean.parquet": parquet(rows)}}})
    source = open_source("tinystories-gpt4-clean")
    assert source.splits == ("train", "validation", "test")
    assert told(source, "train") == rows[20_000:]
    assert told(source, "validation") == rows[10_000:20_000]
    assert told(source, "test") == rows[:10_000]
    assert len({part.key for split in source.splits for part in source.parts(split)}) == 3
    assert set(client.downloads) == {"tinystories_gpt4_clean.parquet"}


def test_tinystories_instruct(fake):
    raw = f"Words: a\nStory: \nOne.\n{ENDOFTEXT}\nSummary: b\nStory: Two.\n{ENDOFTEXT}\n".encode()
    files = {"TinyStories-Instruct-train.txt": raw, "TinyStories-Instruct-valid.txt": raw}
    fake(roneneldan__TinyStoriesInstruct={"main": files})
    records = list(open_source("tinystories-instruct").stories("train"))
    assert [(record.text, dict(record.fields)) for record in records] == [
        ("One.", {"words": "a"}),
        ("Two.", {"summary": "b"}),
    ]


def test_any_dataset_takes_one_kind_of_its_files_and_splits_by_name(fake):
    files = {
        "README.txt": b"not a story",
        "dataset_infos.json": b"{}",
        "en/train.jsonl": b'{"body": "One.", "text": "no"}',
        "en/dev.jsonl": b'{"body": "Two."}',
        "en/train.txt": b"One.",
    }
    fake(someone__stories={"main": files, "v2": {"train.jsonl": b'{"body": "Three."}'}})
    source = open_source("someone/stories?column=body")
    assert (told(source, "train"), told(source, "validation")) == (["One."], ["Two."])
    assert told(open_source("someone/stories?files=*.txt"), "train") == ["One."]
    assert told(open_source("someone/stories?column=body&revision=v2"), "train") == ["Three."]
    with pytest.raises(DataError, match="has no revision v3"):
        open_source("someone/stories?revision=v3")
    with pytest.raises(DataError, match=r"has no files of stories like \*.png"):
        open_source("someone/stories?files=*.png")
    with pytest.raises(UsageError, match=r"unknown option 'colum' .* did you mean 'column'"):
        open_source("someone/stories?colum=body")


def test_a_dataset_of_csv_is_read_from_the_hubs_own_parquet_copy(fake):
    copy = {"default/train/0000.parquet": parquet(["One."])}
    fake(someone__tables={"main": {"train.csv": b"text\nOne."}, "refs/convert/parquet": copy})
    assert told(open_source("someone/tables"), "train") == ["One."]
    fake(someone__tables={"main": {"train.csv": b"text\nOne."}})
    with pytest.raises(DataError, match="someone/tables has no files of stories"):
        open_source("someone/tables")


def test_a_key_follows_the_content_and_not_the_commit(fake):
    fake(someone__stories={"main": {"a.txt": b"One."}, "v2": {"a.txt": b"Two."}, "v3": {"a.txt": b"Three."}})
    keys = [open_source(f"someone/stories{end}").parts("train")[0].key for end in ("", "?revision=v2", "?revision=v3")]
    assert keys[0] == keys[1] != keys[2]
    part = open_source("someone/stories").parts("train")[0]
    assert list(pickle.loads(pickle.dumps(part))) == list(part)


def test_a_corpus_whose_files_are_gone(fake):
    fake(roneneldan__TinyStories={"main": {"README.md": b""}})
    with pytest.raises(DataError, match=r"tinystories-v2: no file TinyStoriesV2-GPT4-train.txt in dataset"):
        open_source("tinystories-v2")


def test_no_such_dataset(fake):
    fake()
    with pytest.raises(DataError, match="no dataset someone/nothing on the Hub, nor a file or folder"):
        open_source("someone/nothing")


@pytest.mark.parametrize(
    "error", [OSError("[Errno -2] Name or service not known"), RuntimeError(), TimeoutError("slow")]
)
def test_without_network_it_says_what_to_do(fake, error):
    client = fake()

    def fails(*_, **__):
        raise error

    client.dataset_info = fails
    for name in CORPORA:
        with pytest.raises(
            SetupError, match=r"check the network, set HF_HUB_OFFLINE=1 .* or give a local path"
        ) as caught:
            open_source(name)
        assert caught.value.exit_code == 4
        assert "\n" not in str(caught.value)


def test_a_download_that_fails_is_no_traceback(fake):
    client = fake(someone__stories={"main": {"a.txt": b"One."}})
    source = open_source("someone/stories")

    def fails(*_, **__):
        raise errors.LocalEntryNotFoundError("An error happened.\nMore.")

    client.hf_hub_download = fails
    with pytest.raises(SetupError, match=r"\(An error happened\.\): check the network"):
        list(source.stories("train"))


def test_a_gated_dataset(fake):
    client = fake()

    def fails(*_, **__):
        raise errors.GatedRepoError("403", response=SimpleNamespace(headers={}, request=None))

    client.dataset_info = fails
    with pytest.raises(SetupError, match="is gated: accept its terms on its page, then run `hf auth login`"):
        open_source("someone/gated")


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(SetupError, match=r"pip install 'storylm\[hub\]'"):
        open_source("tinystories")


def test_offline_only_the_cache_counts(monkeypatch, tmp_path):
    from huggingface_hub import constants, scan_cache_dir  # noqa: F401 - takes the cache's place when first imported

    commit = "a" * 40
    repo = tmp_path / "datasets--someone--stories"
    for folder in ("blobs", "refs", f"snapshots/{commit}/data"):
        (repo / folder).mkdir(parents=True)
    (repo / "refs" / "main").write_text(commit)
    (repo / "blobs" / "123").write_text("One.\n\nTwo.")
    (repo / "snapshots" / commit / "data" / "train.txt").symlink_to(repo / "blobs" / "123")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    source = open_source("someone/stories")
    assert told(source, "train") == ["One.", "Two."]
    assert source.parts("train")[0].key.startswith("hub:someone/stories/data/train.txt@123")
    with pytest.raises(SetupError, match=r"someone/other is not in the local cache and HF_HUB_OFFLINE is set"):
        open_source("someone/other")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "none"))
    with pytest.raises(SetupError, match="not in the local cache"):
        open_source("someone/stories")
