"""From a corpus to tokens: complete, the same however many processes, resumable, and kept for the next run."""

import gzip
import json
import multiprocessing
import os
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from storylm.config.errors import DataError, SetupError, UsageError
from storylm.config.files import sha256
from storylm.config.schema import CleaningConfig, RunConfig
from storylm.data.cleaning import Cleaner
from storylm.data.prepare import prepare, prepare_cached
from storylm.data.prepared import Prepared
from storylm.data.preparing import encoding, pool, reading, steps
from storylm.data.records import Record
from storylm.text.tokenizer import Tokenizer
from storylm.text.training import train_bpe

NO_CLEANING = CleaningConfig(
    **dict.fromkeys(
        (
            "mojibake",
            "control",
            "whitespace",
            "fragments",
            "truncated",
            "exact_duplicates",
            "near_duplicates",
            "overlap",
        ),
        False,
    )
)


def tell(number: int) -> str:
    """A story unlike the others."""
    words = np.random.default_rng(number).choice(["cat", "dog", "sun", "hat", "red", "big", "ran", "sat", "saw"], 30)
    return f"Once there was number {number}. {' '.join(words)}."


def write(path: Path, stories) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n<|endoftext|>\n".join(stories) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def corpus(tmp_path) -> str:
    """Three parts of train and one of validation, with duplicates within and across parts."""
    folder = tmp_path / "corpus"
    write(folder / "train-0.txt", [tell(i) for i in range(40)])
    write(
        folder / "train-1.txt", [tell(i) for i in range(38, 80)] + ["Too short.", "And this one has no end at all, the"]
    )
    write(folder / "train-2.txt", [tell(i) for i in range(80, 100)] + [tell(100) + " Extra.", tell(5)])
    write(folder / "valid.txt", [tell(100), tell(101), tell(7)])
    return str(folder)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch, tmp_path):
    monkeypatch.setattr(steps, "CHUNK_BYTES", 2000)
    monkeypatch.setenv("STORYLM_CACHE", str(tmp_path / "cache"))


def contents(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def texts(prepared: Prepared, split: str) -> list[str]:
    """The stories of a split, decoded from its tokens."""
    tokens, tokenizer = prepared.split(split), prepared.tokenizer
    starts = tokens.story_starts.tolist()
    return [tokenizer.decode(tokens.window(a, b - a)) for a, b in pairwise(starts)]


# -- what comes out --------------------------------------------------------------------------------------


def test_every_story_that_cleaning_keeps_and_no_other(corpus, tmp_path):
    prepared = prepare(corpus, "bytes", tmp_path / "out")
    # 38 and 39 twice, 5 twice; 7 and (nearly) 100 stand in validation.
    assert texts(prepared, "train") == [tell(i) for i in range(100) if i != 7]
    assert texts(prepared, "validation") == prepared.validation_stories() == [tell(100), tell(101), tell(7)]
    report = prepared.report("train")
    assert {name: rule.dropped for name, rule in report.rules.items() if rule.dropped} == {
        "fragments": 1,
        "truncated": 1,
        "exact_duplicates": 3,
        "overlap": 2,
    }
    assert report.rules["overlap"].examples == [tell(7), tell(100) + " Extra."]
    assert (report.read, report.kept) == (40 + 44 + 22, 99)
    assert (prepared.report("validation").read, prepared.report("validation").kept) == (3, 3)


@pytest.mark.parametrize("name", ["bytes", "mistral"])  # one special token, and a start token of its own
def test_agrees_with_cleaning_in_one_process(train_stories, valid_stories, shared, tmp_path, name):
    train, valid = train_stories[:200] + valid_stories[:3], valid_stories[:40]
    source = write(tmp_path / "a" / "train.txt", train).parent
    write(source / "valid.txt", valid)
    prepared = prepare(str(source), name if name == "bytes" else str(shared / "reference" / name), tmp_path / "out")

    validation = Cleaner(CleaningConfig())
    kept_valid = list(validation.clean(map(Record, valid)))
    cleaner = Cleaner(CleaningConfig())
    kept_train = list(cleaner.clean(map(Record, train), against=validation.fingerprints))
    assert cleaner.report.rules["overlap"].dropped == 3
    for split, kept, report in (("train", kept_train, cleaner.report), ("validation", kept_valid, validation.report)):
        assert name != "bytes" or texts(prepared, split) == kept
        assert prepared.report(split) == report
        assert prepared.stories(split) == len(kept)
        assert prepared.bytes(split) == sum(len(text.encode()) for text in kept)
        ids = np.concatenate([prepared.tokenizer.story_ids(prepared.tokenizer.encode(text)) for text in kept])
        assert np.array_equal(prepared.split(split).window(0, len(ids)), ids)
        assert prepared.tokens(split) == prepared.split(split).tokens == len(ids)


def test_the_manifest_vouches_for_every_file(corpus, tmp_path):
    out = tmp_path / "out"
    prepared = prepare(corpus, "bpe", out, vocab_size=300)
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["files"].keys() == contents(out).keys() - {"manifest.json"}
    assert all(entry["sha256"] == contents(out)[name] for name, entry in manifest["files"].items())
    assert manifest["tokenizer"] == {"fingerprint": prepared.tokenizer.fingerprint, "vocab_size": 300}
    assert str(tmp_path) not in json.dumps({key: value for key, value in manifest.items() if key != "settings"})
    assert not (out / ".work").exists()


def test_the_result_does_not_depend_on_the_workers(corpus, tmp_path):
    outs = [tmp_path / "one", tmp_path / "two"]
    for workers, out in enumerate(outs, 1):
        prepared = prepare(corpus, "bpe", out, vocab_size=300, workers=workers)
    assert len(prepared.manifest["splits"]["train"]["shards"]) > 3
    assert contents(outs[0]) == contents(outs[1])


def test_own_tokenizer_is_trained_on_train_only(tmp_path):
    source = write(tmp_path / "a" / "train.txt", [tell(i) for i in range(50)]).parent
    write(source / "valid.txt", [f"Zyzzyva number {i} met a zyzzyva and a zyzzyva." for i in range(50)])
    tokenizer = prepare(str(source), "bpe", tmp_path / "out", vocab_size=400).tokenizer
    assert len(tokenizer.encode(" number")) == 1
    assert len(tokenizer.encode("zyzzyva")) == 7


def test_a_share_of_train_is_held_out_by_what_stories_say(tmp_path):
    stories = [tell(i) for i in range(300)]
    one = write(tmp_path / "one.txt", stories)
    other = write(tmp_path / "other.txt", [*stories[::-1], *stories[:20], tell(1000)])
    results = [prepare(str(p), "bytes", tmp_path / p.stem, validation_share=0.1) for p in (one, other)]
    held = set(results[0].validation_stories())
    assert 10 <= len(held) <= 55
    assert held == set(results[1].validation_stories()) - {tell(1000)}  # whatever else is there, and where it stands
    assert held | set(texts(results[0], "train")) == set(stories)
    assert not held & set(texts(results[1], "train"))
    reports = [results[1].report(split) for split in ("train", "validation")]
    assert sum(report.read for report in reports) == 321
    assert [report.kept for report in reports] == [results[1].stories(split) for split in ("train", "validation")]


def test_a_tiny_corpus_holds_out_one_story(tmp_path):
    path = write(tmp_path / "a.txt", [tell(i) for i in range(5)])
    prepared = prepare(str(path), "bytes", tmp_path / "out", validation_share=0.001)
    assert (prepared.stories("train"), prepared.stories("validation")) == (4, 1)
    only = write(tmp_path / "b.txt", [tell(0)])
    assert prepare(str(only), "bytes", tmp_path / "only").stories("train") == 1


def test_max_stories_reads_no_more(corpus, tmp_path):
    prepared = prepare(corpus, "bytes", tmp_path / "out", max_stories=45)
    assert prepared.report("train").read == 45
    assert texts(prepared, "train") == [tell(i) for i in range(43) if i != 7]
    assert prepared.stories("validation") == 3


def test_validation_of_its_own(corpus, tmp_path):
    other = write(tmp_path / "other.txt", [tell(3), tell(500)])
    prepared = prepare(corpus, "bytes", tmp_path / "out", validation=str(other))
    assert prepared.validation_stories() == [tell(3), tell(500)]
    assert tell(3) not in texts(prepared, "train")
    assert tell(7) in texts(prepared, "train")


def test_rules_can_be_switched_off(corpus, tmp_path):
    prepared = prepare(corpus, "bytes", tmp_path / "out", NO_CLEANING)
    assert prepared.stories("train") == 40 + 44 + 22


def test_the_grammar(tmp_path):
    prepared = prepare("grammar?stories=60&validation=9&seed=3", "bpe", tmp_path / "out", vocab_size=300)
    from storylm.data.grammar import story

    assert texts(prepared, "train") == [story(6, index) for index in range(60)]
    assert prepared.stories("validation") == 9


# -- interrupted -----------------------------------------------------------------------------------------


def test_goes_on_after_an_interruption(corpus, tmp_path, monkeypatch):
    whole, out = tmp_path / "whole", tmp_path / "out"
    prepare(corpus, "bpe", whole, vocab_size=300)
    calls: list[str] = []
    real = {"read": reading._write_part, "encode": encoding._encode}

    def interrupted(stage: str, survives: int):
        seen = 0

        def call(*args):
            nonlocal seen
            seen += 1
            if seen > survives:
                raise KeyboardInterrupt
            calls.append(stage)
            return real[stage](*args)

        return call

    for stage, survives in (("read", 2), ("read", 1), ("encode", 3), ("encode", 3)):
        monkeypatch.setattr(reading, "_write_part", real["read"])
        monkeypatch.setattr(encoding, "_encode", real["encode"])
        owner = (reading, "_write_part") if stage == "read" else (encoding, "_encode")
        monkeypatch.setattr(*owner, interrupted(stage, survives))
        with pytest.raises(KeyboardInterrupt):
            prepare(corpus, "bpe", out, vocab_size=300)
        assert not (out / "manifest.json").exists()
        with pytest.raises(DataError, match="not finished"):
            prepare_cached(RunConfig(data={"source": str(out)}))
    assert calls.count("read") == 3  # the part done before the second interruption was not read again
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*.tokens")}
    assert len(times) >= 6
    monkeypatch.undo()
    monkeypatch.setattr(steps, "CHUNK_BYTES", 2000)
    monkeypatch.setattr(reading, "_write_part", None)  # all is read
    prepare(corpus, "bpe", out, vocab_size=300)
    assert all(path.stat().st_mtime_ns == then for path, then in times.items())
    assert contents(out) == contents(whole)


def test_unfinished_work_of_other_settings_is_not_used(corpus, tmp_path, monkeypatch):
    out = tmp_path / "out"
    monkeypatch.setattr(steps, "_finish", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        prepare(corpus, "bytes", out, max_stories=5)
    monkeypatch.undo()
    assert prepare(corpus, "bytes", out, NO_CLEANING, max_stories=4).stories("train") == 4


def test_what_is_done_is_not_done_again(corpus, tmp_path, monkeypatch):
    out = tmp_path / "out"
    prepare(corpus, "bytes", out)
    monkeypatch.setattr(steps, "_read", None)
    assert prepare(corpus, "bytes", out).stories("train") == 99
    with pytest.raises(UsageError, match=r"prepared otherwise \(max_stories: None there, 7 here\)"):
        prepare(corpus, "bytes", out, max_stories=7)
    write(Path(corpus) / "train-3.txt", [tell(900)])
    with pytest.raises(UsageError, match="files have changed"):
        prepare(corpus, "bytes", out)


def test_a_full_disk_says_so(corpus, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(encoding, "_encode", full)
    with pytest.raises(SetupError, match="is full: make room"):
        prepare(corpus, "bytes", tmp_path / "out")


# -- bad input -------------------------------------------------------------------------------------------


def test_missing_and_empty_sources(tmp_path):
    with pytest.raises(DataError, match="no file, folder or corpus"):
        prepare(str(tmp_path / "none.txt"), "bytes", tmp_path / "out")
    path = write(
        tmp_path / "bad.txt",
        ["Hm.", "and this begins in the middle, which is no good.", "This has no end, although it is long, the"],
    )
    with pytest.raises(
        DataError,
        match="no stories for train: 3 records read, dropped: 2 by fragments, 1 by truncated; a rule is switched off",
    ):
        prepare(str(path), "bytes", tmp_path / "out")
    good = write(tmp_path / "good.txt", [tell(1), tell(2)])
    with pytest.raises(DataError, match=r"bad\.txt has no stories for validation: 3 records"):
        prepare(str(good), "bytes", tmp_path / "out", validation=str(path))
    with pytest.raises(DataError, match=r"no stories for train: 2 records read, dropped: 2 as duplicates or overlap"):
        prepare(str(good), "bytes", tmp_path / "out", validation=str(good))


def test_a_folder_with_something_else_is_left_alone(corpus, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("dear")
    with pytest.raises(UsageError, match="is not empty"):
        prepare(corpus, "bytes", tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    "names", [[".work/notes", "thesis.txt"], [".work/notes"], [".work/key", "thesis.txt"], ["train/thesis.txt"]]
)
def test_what_only_looks_like_unfinished_work_is_left_alone(corpus, tmp_path, names):
    for name in names:
        write(tmp_path / "mine" / name, ["dear"])
    before = contents(tmp_path / "mine")
    with pytest.raises(UsageError, match="choose another --out"):
        prepare(corpus, "bytes", tmp_path / "mine")
    assert contents(tmp_path / "mine") == before


def test_a_crash_before_the_key_stood_is_no_hindrance(corpus, tmp_path):
    write(tmp_path / "out" / ".tmp-.work.123" / "key", ["x"])
    prepare(corpus, "bytes", tmp_path / "out")
    assert not list((tmp_path / "out").glob(".tmp*"))


def test_a_folder_that_cannot_be_made(corpus, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("dear")
    with pytest.raises(SetupError, match=r"cannot write to .*choose another folder"):
        prepare(corpus, "bytes", tmp_path / "file" / "out")
    with pytest.raises(UsageError, match="is a file"):
        prepare(corpus, "bytes", tmp_path / "file")
    with pytest.raises(SetupError, match="cannot write to"):
        prepare(corpus, "bytes", tmp_path / ("x" * 500))

    def refused(*args):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(steps, "write_text", refused)
    with pytest.raises(SetupError, match="Permission denied"):
        prepare(corpus, "bytes", tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "raw", "words"),
    [
        ("a.txt.gz", b"no gzip", "1 x file is cut or damaged (first: a.txt.gz: Not a gzipped file"),
        ("a.json", b'{"data": ["Once."]}', "1 x no column text, story, content: name the story's with ?column="),
        ("a.parquet", b"PAR1 it is not", "file is cut or damaged"),
        ("a.txt", "Once.".encode("utf-16"), "1 x UTF-16 text: convert it to UTF-8"),
    ],
)
def test_nothing_could_be_read_and_why(tmp_path, name, raw, words):
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(DataError) as caught:
        prepare(str(tmp_path / name), "bytes", tmp_path / "out")
    assert words in str(caught.value)
    assert "RULE=false" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("train/*.tokens", lambda raw: raw[:-1], "bytes and should have"),
        ("train/*.tokens", lambda raw: b"XXXX" + raw[4:], "is no token file"),
        ("train/*.tokens", None, "is missing"),
        ("validation.jsonl", lambda raw: raw[:-1], "is damaged"),
        ("manifest.json", lambda raw: raw[:100], "cannot be read"),
        ("manifest.json", lambda raw: raw.replace(b'"splits"', b'"spl1ts"'), "is damaged"),
        ("manifest.json", lambda raw: raw.replace(b'"version": 1', b'"version": 9'), "format 9"),
    ],
)
def test_a_damaged_folder_is_refused_or_prepared_anew(corpus, tmp_path, capsys, name, damage, message):
    config = RunConfig(tokenizer="bytes", data={"source": corpus})
    folder = prepare_cached(config).folder
    before = contents(folder)
    path = sorted(folder.glob(name))[-1]
    path.write_bytes(damage(path.read_bytes())) if damage else path.unlink()
    with pytest.raises(DataError, match=message):
        Prepared.load(folder)
    capsys.readouterr()
    assert prepare_cached(config).folder == folder
    assert "anew" in capsys.readouterr().err
    assert contents(folder) == before


def test_a_flipped_bit_is_found_by_its_hash(corpus, tmp_path):
    out = tmp_path / "out"
    prepare(corpus, "bytes", out)
    path = sorted((out / "train").glob("*.tokens"))[0]
    raw = bytearray(path.read_bytes())
    raw[1500] ^= 1
    path.write_bytes(raw)
    Prepared.load(out)
    with pytest.raises(DataError, match="not those that were written"):
        Prepared.load(out, verify=True)
    with pytest.raises(DataError, match=f"{path} is damaged"):
        prepare_cached(RunConfig(data={"source": str(out)}))


def test_a_flipped_bit_in_the_cache_is_prepared_anew(corpus, capsys):
    config = RunConfig(tokenizer="bytes", data={"source": corpus})
    folder = prepare_cached(config).folder
    before = contents(folder)
    path = sorted((folder / "validation").glob("*.tokens"))[0]
    raw = bytearray(path.read_bytes())
    raw[1025] ^= 1
    path.write_bytes(raw)
    prepare_cached(config)
    assert "warning: preparing the stories" in capsys.readouterr().err
    assert contents(folder) == before


# -- for a run -------------------------------------------------------------------------------------------


def test_a_run_prepares_once(corpus, tmp_path, capsys, monkeypatch):
    config = RunConfig(tokenizer="bytes", data={"source": corpus})
    first = prepare_cached(config)
    assert first.folder.is_relative_to(tmp_path / "cache")
    assert "preparing the stories" in capsys.readouterr().err
    again = prepare_cached(config.model_copy(update={"name": "another run"}))
    assert "using the stories" in capsys.readouterr().err
    assert again.folder == first.folder
    for other in (
        RunConfig(tokenizer="bytes", data={"source": corpus, "max_stories": 5}),
        RunConfig(tokenizer="bytes", data={"source": corpus, "cleaning": {"fragments": False}}),
        RunConfig(tokenizer="bpe", data={"source": corpus}, model={"vocab_size": 300}),
        RunConfig(tokenizer="bpe", data={"source": corpus}, model={"vocab_size": 320}),
    ):
        assert prepare_cached(other).folder != first.folder
    assert len(list((tmp_path / "cache" / "prepared").iterdir())) == 5
    os.utime(Path(corpus) / "train-0.txt", (1, 1))
    assert prepare_cached(config).folder != first.folder


def test_another_tokenizer_of_the_same_name_is_another_run(corpus, tmp_path):
    config = RunConfig(tokenizer=str(tmp_path / "tok"), data={"source": corpus})
    folders = set()
    for text in ("the cat and the hat", "a dog and a log"):
        train_bpe([text] * 9, 300).save(tmp_path / "tok")
        prepared = prepare_cached(config)
        assert prepared.tokenizer.fingerprint == Tokenizer.load(tmp_path / "tok").fingerprint
        folders.add(prepared.folder)
    assert len(folders) == 2


def test_a_run_takes_a_prepared_folder(corpus, tmp_path, shared):
    out = tmp_path / "out"
    prepare(corpus, "bytes", out)

    def take(**settings):
        return prepare_cached(RunConfig(data={"source": str(out), **settings.pop("data", {})}, **settings))

    assert take().folder == take(tokenizer="bytes").folder == out
    with pytest.raises(UsageError, match="made with another tokenizer"):
        take(tokenizer=str(shared / "reference" / "mistral"))
    for data in (
        {"max_stories": 3},
        {"validation": corpus},
        {"validation_share": 0.1},
        {"cleaning": {"fragments": False}},
    ):
        with pytest.raises(UsageError, match=f"data.{next(iter(data))} decides"):
            take(data=data)


def test_a_run_on_a_prepared_folder_may_repeat_its_share(tmp_path):
    source = write(tmp_path / "a.txt", [tell(i) for i in range(30)])
    out = prepare(str(source), "bytes", tmp_path / "out", validation_share=0.1).folder
    assert prepare_cached(RunConfig(data={"source": str(out), "validation_share": 0.1})).folder == out


@pytest.mark.parametrize("source", ["~nosuchuser/stories", "x" * 5000, "a\0b"])
def test_names_that_no_file_can_have(source):
    with pytest.raises(DataError, match="no file, folder or corpus"):
        prepare_cached(RunConfig(data={"source": source}))


def test_a_run_says_what_was_left_out(tmp_path, capsys):
    stories = write(tmp_path / "a.txt", [tell(i) for i in range(400)] + ["Hm."])
    cut = tmp_path / "cut.txt.gz"
    cut.write_bytes(gzip.compress(stories.read_bytes())[:-2000])
    for source, words in ((stories, ""), (cut, "problems: 1 x file is cut or damaged (first: cut.txt.gz: ")):
        for _ in ("prepared", "from the cache"):
            report = prepare_cached(RunConfig(tokenizer="bytes", data={"source": str(source)})).report("train")
            said = capsys.readouterr().err
            assert f"train: {report.read} records read, {report.kept} kept, {report.dropped} dropped" in said
            assert words in said
            assert ("problems" in said) == bool(words)


def _prepare_cached_in_another_process(corpus: str) -> str:
    return str(prepare_cached(RunConfig(tokenizer="bytes", data={"source": corpus})).folder)


def test_two_runs_at_once(corpus):
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        folders = pool.map(_prepare_cached_in_another_process, [corpus, corpus])
    assert folders[0] == folders[1]
    Prepared.load(folders[0], verify=True)


# -- processes -------------------------------------------------------------------------------------------


def _fail(number: int) -> int:
    if number == 3:
        raise DataError("three")
    return number


def _die(number: int) -> int:
    os._exit(1)


def _go_on_for_ever(number: int) -> None:
    if number == 1:
        raise DataError("one")
    for _ in range(600):
        pool.tally().add(stories=1)
        time.sleep(0.05)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_pool_keeps_order_and_passes_errors_on(workers):
    assert list(pool.run(_fail, [0, 1, 2], workers)) == [0, 1, 2]
    with pytest.raises(DataError, match="three"):
        list(pool.run(_fail, [0, 1, 2, 3], workers))


def test_a_failure_stops_the_other_processes():
    began = time.monotonic()
    with pytest.raises(DataError, match="one"):
        list(pool.run(_go_on_for_ever, [0, 1], 2))
    assert time.monotonic() - began < 20


def test_a_dead_worker_is_reported():
    with pytest.raises(SetupError, match="worker process died"):
        list(pool.run(_die, [0, 1], 2))


def test_a_script_needs_no_main_guard(corpus, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "print('once')\n"
        "from storylm.data.prepare import prepare\n"
        f"print(prepare({corpus!r}, 'bytes', {str(tmp_path / 'out')!r}, workers=2).stories('train'))\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == ["once", "99"]


def test_progress_is_told(corpus, tmp_path):
    told = []
    prepare(corpus, "bpe", tmp_path / "out", vocab_size=300, progress=told.append)
    assert list(dict.fromkeys(progress.stage for progress in told)) == [
        "reading and cleaning",
        "finding duplicates",
        "training the tokenizer",
        "encoding",
    ]
    assert all(progress.share is None or 0 <= progress.share <= 1 for progress in told)
    assert Tokenizer.load(tmp_path / "out" / "tokenizer").vocab_size == 300
