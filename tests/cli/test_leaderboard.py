"""`storylm leaderboard` from the outside: a table, three files, and models that cannot be loaded."""

import json
import sys

import pytest

from cli.telling import call, diverged_model, small_model
from report.reading import Page
from storylm.cli.leaderboard import leaderboard
from storylm.config.errors import DataError, UsageError

QUICK = ("--stories", "0", "--max-new-tokens", "5", "--prompt", "A <b>|cat")
DATA = ("--data", "grammar?validation=8")


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> list[str]:
    place = tmp_path_factory.mktemp("models")
    return [small_model(place / name, seed) for seed, name in enumerate(("first", "sec|ond"))]


@pytest.fixture(autouse=True)
def _quick(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("storylm.evaluation.leaderboard.kept.cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr("storylm.evaluation.leaderboard.examine.SUITES", ("facts",))


def test_a_leaderboard_is_a_table_and_three_files(models, tmp_path):
    out = tmp_path / "board"
    done = call(leaderboard, *models, *DATA, *QUICK, "--out", str(out), env={"COLUMNS": "200"})
    found = json.loads((out / "leaderboard.json").read_text())
    best, other = found["models"]
    assert {best["model"], other["model"]} == set(models)
    figures = [row["metrics"][0]["value"] for row in (best, other)]
    assert figures[0] < figures[1]
    assert other["against_best"]["value"] == pytest.approx(figures[1] - figures[0], abs=1e-9)
    assert best["against_best"] is None
    assert (found["asked"]["stories"], found["left_out"]) == (8, [])
    assert len(best["weights"]) == len(found["asked"]["sha256"]) == 64

    names = [row["model"].rpartition("/")[2] for row in (best, other)]
    for text in (done.stdout, (out / "leaderboard.md").read_text()):
        assert f"{figures[0]:.4f}" in text
        assert f"{other['against_best']['value']:+.4f}" in text
        assert f"{names[0]} predicts stories best: {figures[0]:.4f} bits per byte" in text
        assert "25%" in text  # chance
    page = Page((out / "leaderboard.html").read_text())
    assert page.needs_nothing()
    assert [row[2] for row in page.all("blockquote")] == [best["story"], other["story"]]
    assert best["story"].startswith("A <b>|cat")
    assert len(page.all("circle")) == 2
    assert "8 stories of grammar?validation=8" in page.text


def test_every_row_of_markdown_has_as_many_cells(models, tmp_path):
    call(leaderboard, *models, *DATA, *QUICK, "--out", str(tmp_path))
    rows = [line for line in (tmp_path / "leaderboard.md").read_text().splitlines() if line.startswith("|")]
    cells = [line.replace("\\|", "").count("|") for line in rows]
    assert len(rows) == 9  # two tables: heads, rules, two models each, and what figures are held against
    assert set(cells) == {9, 3}
    assert all("sec\\|ond" in line for line in rows if "ond" in line)


def test_a_model_that_cannot_be_loaded_is_named_and_the_others_are_ranked(models, tmp_path):
    done = call(leaderboard, "nowhere", *models, *DATA, *QUICK, "--out", str(tmp_path))
    assert done.exit_code == 5
    assert "nowhere is left out: there is no model folder" in done.stderr
    assert done.stderr.count("is left out") == 1
    found = json.loads((tmp_path / "leaderboard.json").read_text())
    assert len(found["models"]) == 2
    assert found["left_out"][0]["model"] == "nowhere"
    assert "nowhere" in (tmp_path / "leaderboard.md").read_text()
    assert "nowhere" in Page((tmp_path / "leaderboard.html").read_text()).text


def test_a_model_that_diverged_has_no_place_asked_now_or_before(models, tmp_path):
    names = (diverged_model(tmp_path / "diverged"), *models)
    for _ in ("asked", "known"):
        done = call(leaderboard, *names, *DATA, *QUICK, "--out", str(tmp_path / "board"))
        assert done.exit_code == 5
        assert "diverged is left out: the model's scores of the next token are not numbers" in done.stderr
        found = json.loads((tmp_path / "board" / "leaderboard.json").read_text())
        assert [row["model"] for row in found["left_out"]] == [names[0]]
        assert {row["model"] for row in found["models"]} == set(models)


def test_where_none_can_be_loaded_nothing_is_written(tmp_path):
    done = call(leaderboard, "nowhere", *DATA, *QUICK, "--out", str(tmp_path / "board"))
    assert done.exit_code == 5
    assert not (tmp_path / "board").exists()


def test_stories_are_held_against_real_ones(models, tmp_path):
    for package in ("sacrebleu", "rouge_score", "harper"):
        pytest.importorskip(package)
    call(leaderboard, models[0], *DATA, *QUICK[2:], "--stories", "3", "--out", str(tmp_path))
    (row,) = json.loads((tmp_path / "leaderboard.json").read_text())["models"]
    lints = next(one for one in row["metrics"] if one["name"] == "grammar_lints")
    text = (tmp_path / "leaderboard.md").read_text()
    head, _, mine, real = [line.split(" | ") for line in text.splitlines() if line.startswith("|")][-4:]
    at = head.index("grammar lints ↓")
    assert real[0] == "| real stories"
    assert float(mine[at]) == pytest.approx(lints["value"], abs=1e-3)
    assert float(real[at]) == pytest.approx(lints["reference"], abs=1e-3)


def test_stories_are_seen_with_given_eyes_and_true_endings_stop_where_told_ones_have_to(models, tmp_path):
    for package in ("sacrebleu", "rouge_score", "harper"):
        pytest.importorskip(package)
    eyes = ("--eyes", small_model(tmp_path / "eyes", 5, tokenizer=False), "--tokenizer", "bytes")
    call(leaderboard, *models, *DATA, *QUICK[2:], "--stories", "3", *eyes, "--out", str(tmp_path))
    found = json.loads((tmp_path / "leaderboard.json").read_text())
    assert set(found["asked"]["eyes"]) == {"weights", "tokenizer"}
    for row in found["models"]:
        named = {one["name"]: one for one in row["metrics"]}
        assert (named["reached_limit"]["value"], named["reached_limit"]["reference"]) == (1, 1)
        assert named["ended_properly"]["reference"] == 0
        assert named["eyes_bits_per_byte"]["value"] > 0
    assert "eyes bits per byte ≈" in (tmp_path / "leaderboard.md").read_text()


def test_one_story_has_no_interval(models, tmp_path):
    done = call(leaderboard, *models, *DATA, *QUICK, "--max-stories", "1", "--out", str(tmp_path))
    found = json.loads((tmp_path / "leaderboard.json").read_text())
    best, other = found["models"]
    figure, difference = (row["metrics"][0]["value"] for row in (best, other))
    assert (best["metrics"][0]["interval"], other["against_best"]["interval"]) == (None, None)
    name = best["model"].rpartition("/")[2]
    assert f"{name} predicts stories best: {figure:.4f} bits per byte, " in " ".join(done.stdout.split())
    page = Page((tmp_path / "leaderboard.html").read_text())
    dots = [float(row[1]["cx"]) for row in page.all("circle")]
    assert dots == [5, 175]  # the scale is that of the figures
    assert [row[1]["aria-label"] for row in page.all("svg") if "aria-label" in row[1]][:2] == [
        f"{figure:.4f}",
        f"{difference:.4f}",
    ]


def test_lossy_tokenizers_and_stories_that_could_not_be_read_are_told_of(models, tmp_path, monkeypatch):
    lossy = small_model(tmp_path / "lossy", 3)
    monkeypatch.setattr("storylm.text.tokenizer.Tokenizer.lossless", property(lambda tokenizer: False))
    stories = tmp_path / "stories.jsonl"
    stories.write_text('{"text": "Tom had a cat."}\n{"text": 7}\n{"text": "The cat ran."}\n{"text": ""}\n')
    for _ in ("asked", "known"):
        done = call(leaderboard, lossy, "--data", str(stories), *QUICK, "--out", str(tmp_path), env={"COLUMNS": "200"})
        found = json.loads((tmp_path / "leaderboard.json").read_text())
        assert found["models"][0]["tokenizer_lossless"] is False
        assert sum(found["asked"]["unreadable"].values()) == 2
        page = Page((tmp_path / "leaderboard.html").read_text()).text
        for text in (done.stdout, (tmp_path / "leaderboard.md").read_text(), page):
            assert "lossy *" in text
            assert "* Its tokenizer does not give every text back" in text
            assert "Left out, unreadable: 1 x " in text
            assert "1 x empty story" in text


def test_what_is_fine_is_not_warned_of(models, tmp_path):
    call(leaderboard, *models, *DATA, *QUICK, "--out", str(tmp_path))
    text = (tmp_path / "leaderboard.md").read_text()
    assert " *" not in text.replace("**", "")
    assert "Left out" not in text


def test_markdown_says_where_it_was_measured_and_has_a_picture_beside_it(models, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    call(leaderboard, *models, *DATA, *QUICK, "--out", str(tmp_path))
    found = json.loads((tmp_path / "leaderboard.json").read_text())
    text = (tmp_path / "leaderboard.md").read_text()
    assert f"Measured on {found['machine']}." in text
    assert f"the fastest of three, measured on {found['models'][0]['asked'][:10]}." in text
    assert "![by size](by-size.png)" in text
    assert (tmp_path / "by-size.png").read_bytes().startswith(b"\x89PNG")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = call(leaderboard, *models, *DATA, *QUICK, "--out", str(tmp_path / "bare"))
    assert "no pictures: charts need matplotlib" in done.stderr
    assert "by-size" not in (tmp_path / "bare" / "leaderboard.md").read_text()
    assert "no picture, since charts need" in Page((tmp_path / "bare" / "leaderboard.html").read_text()).text


def test_a_model_by_several_names_has_one_place(models, tmp_path):
    copy = small_model(tmp_path / "copy", 0)  # the first one again
    done = call(leaderboard, models[0], f"{models[0]}/", copy, models[1], *DATA, *QUICK, "--out", str(tmp_path))
    found = json.loads((tmp_path / "leaderboard.json").read_text())
    assert {row["model"] for row in found["models"]} == set(models)
    assert found["twins"] == {f"{models[0]}/": models[0], copy: models[0]}
    assert done.exit_code == 0
    assert f"{copy} is the same model as {models[0]}" in done.stderr


def test_as_many_stories_are_named_as_were_told(models, tmp_path):
    for package in ("sacrebleu", "rouge_score", "harper"):
        pytest.importorskip(package)
    call(leaderboard, models[0], *DATA, *QUICK[2:], "--stories", "30", "--out", str(tmp_path))
    (row,) = json.loads((tmp_path / "leaderboard.json").read_text())["models"]
    assert row["metrics"]
    assert "Of 8 stories (30 were asked for: the corpus has no more)" in (tmp_path / "leaderboard.md").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--temperature", "-1"), "--temperature"),
        (("--temperature", "nan"), "--temperature"),
        (("--max-new-tokens", "-5"), "--max-new-tokens"),
        (("--max-stories", "0"), "--max-stories"),
    ],
)
def test_options_are_refused_by_their_names(models, words, message):
    done = call(leaderboard, *models, *DATA, *words)
    assert done.exit_code == 2
    assert message in done.stderr


def test_mistakes_come_before_any_work(models, tmp_path, monkeypatch):
    monkeypatch.setattr("storylm.cli.options.load_model", lambda *_, **__: pytest.fail("a model is loaded"))
    for words, message in (
        (("--eyes", models[0], "--stories", "0"), "--eyes"),
        (("--out", "/proc/x", "--stories", "0"), "/proc/x/leaderboard.json cannot be written"),
        (("--temperature", "inf", "--stories", "0"), "temperature=inf"),
    ):
        with pytest.raises(UsageError, match=message):
            call(leaderboard, *models, *DATA, *words)
    with pytest.raises(DataError, match=r"nowhere\.txt"):
        call(leaderboard, *models, "--data", "nowhere.txt")
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is a file"):
        call(leaderboard, *models, *DATA, "--out", str(tmp_path / "file"))
    with pytest.raises(UsageError, match="each once"):
        call(leaderboard, models[0], models[0], *DATA, *QUICK)


def test_a_spare_tokenizer_is_for_models_without_one(models, tmp_path):
    wordless = small_model(tmp_path / "wordless", 4, tokenizer=False)
    out = ("--out", str(tmp_path / "board"))
    assert call(leaderboard, wordless, *DATA, *QUICK, *out).exit_code == 5
    assert call(leaderboard, wordless, models[0], *DATA, *QUICK, *out, "--tokenizer", "bytes").exit_code == 0
