"""The named corpora: where on the Hub each is, and which files make its splits."""

from dataclasses import dataclass

Rows = tuple[int, int | None] | None
TINY_STORIES = "cdla-sharing-1.0"  # the licence that roneneldan/TinyStories names


@dataclass(frozen=True, slots=True)
class Corpus:
    """A Hub dataset; for each split a pattern of its files and, where splits share a file, the rows (start, stop);
    the `license` that it names, by the Hub's names."""

    repo: str
    files: dict[str, tuple[str, Rows]]
    about: str
    license: str | None = None


CORPORA = {
    "tinystories": Corpus(
        "roneneldan/TinyStories",
        {"train": ("data/train-*.parquet", None), "validation": ("data/validation-*.parquet", None)},
        "V1, by GPT-3.5 and GPT-4: 2,119,719 stories, 1.92 GB of text",
        TINY_STORIES,
    ),
    "tinystories-v2": Corpus(
        "roneneldan/TinyStories",
        {
            "train": ("TinyStoriesV2-GPT4-train.txt", None),
            "validation": ("TinyStoriesV2-GPT4-valid.txt", None),
        },
        "V2, by GPT-4 only: 2,717,699 stories, 2.23 GB of text",
        TINY_STORIES,
    ),
    "tinystories-gpt4-clean": Corpus(
        "karpathy/tinystories-gpt4-clean",
        # One shuffled file; the rows are those its page suggests.
        {
            "train": ("*.parquet", (20_000, None)),
            "validation": ("*.parquet", (10_000, 20_000)),
            "test": ("*.parquet", (0, 10_000)),
        },
        "V2 cleaned, plain ASCII: 2,732,634 stories",
    ),
    "tinystories-instruct": Corpus(
        "roneneldan/TinyStoriesInstruct",
        {
            "train": ("TinyStories-Instruct-train.txt", None),
            "validation": ("TinyStories-Instruct-valid.txt", None),
        },
        "stories with the words, features, summary and sentence they were asked to have",
    ),
    "tinystories-all-data": Corpus(
        "roneneldan/TinyStories",
        {"train": ("TinyStories_all_data.tar.gz", None)},
        "all stories of V1 and V2 with their prompts: 50 JSON shards; no validation split",
        TINY_STORIES,
    ),
}
