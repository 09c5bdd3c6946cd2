"""`storylm judge` from the outside."""

import json
import re
import socket
from contextlib import nullcontext

import pytest

from cli.telling import call, small_model
from evaluation.judge.stand_in import GOOD, serving
from storylm.cli.judge import judge
from storylm.config.errors import CheckpointError, SetupError, UsageError

KEY = "sk-very-secret-0123456789"
QUICK = ("--per-minute", "1000000", "--timeout", "2")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return small_model(tmp_path_factory.mktemp("models") / "small")


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serving() as state:
        yield state


@pytest.fixture
def told(tmp_path) -> str:
    rows = [{"prompt": f"Cat {n} ", "text": f"Cat {n} ran {n} times."} for n in range(6)]
    (tmp_path / "told.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return str(tmp_path / "told.jsonl")


def test_two_judges_grade_the_same_stories_and_are_compared(server, told, tmp_path):
    out = tmp_path / "judged"
    arguments = ("--stories", told, "--endpoint", server.url, "--out", str(out), "--yes", *QUICK)
    server.grades = lambda story: {**GOOD, "plot": int(story.split()[1][0]) + 1}
    first = call(judge, *arguments, "--judge", "wise", "--price-in", "2", "--price-out", "10")
    assert "6 requests to wise" in first.stderr
    assert "at these prices" in first.stderr
    assert "plot" in first.stdout
    assert "3.50" in first.stdout
    server.grades = lambda story: {**GOOD, "plot": int(story.split()[1][0]) + 3}
    second = call(judge, *arguments, "--judge", "other")
    assert "agreement with wise" in second.stdout
    assert "plot rank correlation 1.00" in second.stdout
    found = json.loads((out / "judged.json").read_text())
    assert set(found) == {f"{name} at {server.url}, temperature 0, 300 tokens" for name in ("wise", "other")}
    wise, other = found.values()
    assert wise["rubric"] == other["rubric"]
    plot = next(row for row in wise["metrics"] if row["name"] == "plot")
    assert plot["value"] == 3.5
    assert plot["interval"][0] < 3.5 < plot["interval"][1]
    assert server.keys == [f"Bearer {KEY}"] * 12
    again = call(judge, *arguments, "--judge", "wise", "--json")
    assert len(server.requests) == 12
    assert json.loads(again.stdout)["graded"] == 6
    assert not [path for path in out.rglob("*") if path.is_file() and KEY in path.read_text()]
    assert KEY not in first.stdout + first.stderr + again.stdout


def test_a_model_tells_from_every_beginning_once_and_the_stories_stay(server, model, tmp_path):
    out = str(tmp_path / "judged")
    arguments = (model, "--endpoint", server.url, "--judge", "wise", "--out", out, "--yes", *QUICK)
    few = ("--samples", "2", "--max-new-tokens", "4")
    call(judge, *arguments, *few)
    told = json.loads((tmp_path / "judged" / "stories.json").read_text())
    assert (len(told["stories"]), len({row["prompt"] for row in told["stories"]})) == (100, 50)
    assert told["temperature"] == 1.0
    written = (tmp_path / "judged" / "stories.json").stat().st_mtime_ns
    call(judge, *arguments, *few)
    assert (tmp_path / "judged" / "stories.json").stat().st_mtime_ns == written
    assert len(server.requests) == len({one["messages"][1]["content"] for one in server.requests})
    with pytest.raises(UsageError, match="other stories"):
        call(judge, *arguments, "--samples", "3", "--max-new-tokens", "4")


@pytest.mark.parametrize("kept", ["whole", "of earlier days"])
def test_stories_that_say_whether_they_were_cut_are_known_again(server, tmp_path, kept):
    out, told = tmp_path / "judged", tmp_path / "told.jsonl"
    told.write_text(json.dumps({"prompt": "A cat", "text": "A cat sat", "ended": "length"}))
    arguments = ("--stories", str(told), "--endpoint", server.url, "--judge", "wise", "--out", str(out), "--yes")
    call(judge, *arguments, *QUICK)
    there = json.loads((out / "stories.json").read_text())
    assert there["stories"] == [{"prompt": "A cat", "told": " sat", "cut": True}]
    if kept == "of earlier days":
        del there["stories"][0]["cut"]
        (out / "stories.json").write_text(json.dumps(there))
    call(judge, *arguments, *QUICK)
    assert len(server.requests) == 1
    told.write_text(told.read_text().replace("sat", "ran"))
    with pytest.raises(UsageError, match="other stories"):
        call(judge, *arguments, *QUICK)


def test_nothing_is_asked_before_someone_agrees(server, told, tmp_path):
    with pytest.raises(UsageError, match="--yes"):
        call(judge, "--stories", told, "--endpoint", server.url, "--judge", "wise", "--out", str(tmp_path / "out"))
    assert server.requests == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "whose stories"),
        (["grammar-1m"], "who judges"),
        (["grammar-1m", "--endpoint", "http://localhost:1/v1"], "--judge NAME"),
        (["grammar-1m", "--endpoint", "x", "--judge", "wise", "--out", "o"], "no address"),
        (["grammar-1m", "--learned", "a", "--judge", "wise"], "leave it out"),
        (["--learn", "grammar"], "makes a judge of a model"),
    ],
)
def test_what_does_not_go_together_is_refused(arguments, words):
    with pytest.raises(UsageError, match=words):
        call(judge, *arguments)


def test_a_judge_is_learned_and_used_offline(told, tmp_path):
    folder = str(tmp_path / "judge")
    done = call(judge, "grammar-1m", "--learn", "grammar?stories=40", "--learn-stories", "12", "--out", folder)
    assert "sound and damaged" in done.stdout
    found = json.loads(call(judge, "--stories", told, "--learned", folder, "--json").stdout)
    assert [row["name"] for row in found["metrics"]] == ["probability_damaged", "severity"]
    assert len(found["grades"]) == 6
    assert "severity" in call(judge, "--stories", told, "--learned", folder).stdout
    with pytest.raises(CheckpointError):
        call(judge, "--stories", told, "--learned", str(tmp_path))


def test_a_model_does_not_tell_before_someone_agrees(server, model, tmp_path, monkeypatch):
    monkeypatch.setattr("storylm.evaluation.telling.tell_endings", lambda *_, **__: pytest.fail("it tells"))
    out = tmp_path / "out"
    arguments = (model, "--endpoint", server.url, "--judge", "wise", "--out", str(out), "--samples", "3")
    with pytest.raises(UsageError, match="--yes"):
        call(judge, *arguments)
    assert not (out / "stories.json").exists()


def test_what_is_said_before_telling_is_enough(server, model, tmp_path):
    out = tmp_path / "out"
    arguments = (model, "--endpoint", server.url, "--judge", "wise", "--out", str(out), "--max-new-tokens", "4")
    said = call(judge, *arguments, "--samples", "1", "--yes", *QUICK).stderr
    before, after = (
        int(re.search(rf"{about} ([\d,]+) tokens to read", said)[1].replace(",", ""))  # type: ignore[index]
        for about in ("at most", "about")
    )
    assert "50 requests to wise" in said
    assert 0.9 * before <= after <= before


def test_a_judge_in_another_manner_stands_beside(server, told, tmp_path):
    out = tmp_path / "judged"
    arguments = ("--stories", told, "--endpoint", server.url, "--judge", "wise", "--out", str(out), "--yes", *QUICK)
    call(judge, *arguments)
    warm = call(judge, *arguments, "--judge-temperature", "0.7", "--judge-max-tokens", "4000")
    assert "agreement with wise at http://127.0.0.1" in warm.stdout
    assert "240 to write (24,000 if it thinks" in warm.stderr
    assert {one["max_tokens"] for one in server.requests} == {300, 4000}
    assert len(json.loads((out / "judged.json").read_text())) == 2


def test_stories_that_are_alike_are_counted_once(server, tmp_path, monkeypatch):
    totals = []
    monkeypatch.setattr("storylm.cli.counting.counting", lambda what, total: totals.append(total) or nullcontext(print))
    (tmp_path / "told.jsonl").write_text('{"text": "A cat."}\n' * 4 + '{"text": "A dog."}\n')
    out = str(tmp_path / "out")
    call(judge, "--stories", str(tmp_path / "told.jsonl"), "--endpoint", server.url, "--judge", "wise", "--out", out,
         "--yes", *QUICK)  # fmt: skip
    assert (totals, len(server.requests)) == ([2], 2)


def test_nothing_is_told_for_a_judge_that_is_not_there(model, tmp_path, monkeypatch):
    monkeypatch.setattr("storylm.cli.stories_to_judge._tell", lambda *_: pytest.fail("stories are told"))
    with pytest.raises(CheckpointError, match="nofolder"):
        call(judge, model, "--learned", str(tmp_path / "nofolder"))
    with socket.socket() as free:  # nobody listens there
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
        words = (model, "--endpoint", url, "--judge", "wise", "--out", str(tmp_path / "out"), "--yes", *QUICK)
        with pytest.raises(SetupError, match=r"does not answer .*: is the server running"):
            call(judge, *words)
    assert not (tmp_path / "out").exists()
