"""A judge behind an endpoint: whatever happens on the way, an answer is kept once, and none is made up."""

import json
import random
from datetime import UTC, datetime
from pathlib import Path

import pytest

from evaluation.judge.stand_in import GOOD, TROUBLES, completion, reply, serving
from storylm.config.errors import DataError, SetupError, UsageError
from storylm.evaluation.judge import judged, rubric
from storylm.evaluation.judge.asking import ATTEMPTS, Judge
from storylm.evaluation.judge.cost import estimate
from storylm.evaluation.judge.endpoint import Endpoint
from storylm.evaluation.judge.figures import age_groups, mean_by_beginning, measures
from storylm.evaluation.judge.grading import grade
from storylm.evaluation.judge.kept import Kept
from storylm.evaluation.judge.pace import Pace, backoff, retry_after
from storylm.evaluation.judge.rubric import BadAnswer, Grades
from storylm.evaluation.text.metric import Told

STORIES = [Told(f"Once there were {n} cats.", f" They saw {n} dogs.") for n in range(5)]
KEY = "sk-very-secret-0123456789"


def judge_at(server, **changes) -> Judge:
    return Judge(Endpoint(server.url, timeout=0.3), "wise", **{"per_minute": 1e6, "parallel": 1, **changes})


def run(server, path: Path, stories=STORIES, waits: list | None = None, **changes):
    with Kept(path / "answers.jsonl") as kept:
        return grade(judge_at(server, **changes), stories, kept, sleep=(waits if waits is not None else []).append)


def test_the_judge_reads_the_beginning_the_mark_and_the_rest(server, tmp_path):
    found = run(server, tmp_path)
    assert found.grades == [Grades(7, 4, 6, 5, "C")] * 5
    assert (found.tokens_in, found.tokens_out) == (5 * 300, 5 * 30)
    asked = server.requests[2]
    assert asked["path"] == "/v1/chat/completions"
    assert asked["messages"][1]["content"] == "Once there were 2 cats.*** They saw 2 dogs."
    assert asked["messages"][0]["role"] == "system"
    assert asked["response_format"]["json_schema"]["schema"]["required"] == [*rubric.ASPECTS, "age_group"]
    assert (asked["model"], asked["temperature"]) == ("wise", 0.0)
    row = json.loads((tmp_path / "answers.jsonl").read_text().splitlines()[0])
    assert (row["judge"], row["rubric"], row["grades"]) == (judge_at(server).name, rubric.fingerprint(), GOOD)


@pytest.mark.parametrize("trouble", TROUBLES)
def test_what_goes_wrong_once_is_asked_again(server, tmp_path, trouble):
    server.script = [TROUBLES[trouble]]
    found = run(server, tmp_path, STORIES[:2])
    assert found.grades == [Grades(7, 4, 6, 5, "C")] * 2
    assert len(server.requests) == 3
    assert len((tmp_path / "answers.jsonl").read_text().splitlines()) == 2


def test_a_bad_answer_goes_back_with_what_is_wrong_with_it(server, tmp_path):
    server.script = [TROUBLES["grade 11"]]
    run(server, tmp_path, STORIES[:1])
    *_, said, told = server.requests[1]["messages"]
    assert '"grammar": 11' in said["content"]
    assert "grammar is 11" in told["content"]


def test_a_judge_that_never_answers_well_leaves_the_story_without_grades(server, tmp_path):
    server.script = [TROUBLES["grade 0"]] * ATTEMPTS
    found = run(server, tmp_path)
    assert found.grades == [None] + [Grades(7, 4, 6, 5, "C")] * 4
    assert list(found.failures.values()) == [1]
    assert "grammar is 0" in next(iter(found.failures))
    assert [one.value for one in measures(STORIES, found.grades)] == [7.0, 4.0, 6.0, 5.0]  # of those that have some
    assert run(server, tmp_path).grades[0] is not None  # another time it is asked again
    assert len(server.requests) == ATTEMPTS + 5


def test_what_is_kept_is_not_asked_again_and_another_judge_is(server, tmp_path):
    first = run(server, tmp_path)
    again = run(server, tmp_path)
    assert (len(server.requests), again.grades) == (5, first.grades)
    assert (again.tokens_in, again.tokens_out) == (0, 0)
    run(server, tmp_path, temperature=0.5)
    run(server, tmp_path, [*STORIES, STORIES[0], Told("", "New.")])  # one is new, and one is there twice
    assert len(server.requests) == 11


def test_an_interruption_loses_no_answer(server, tmp_path):
    class Stop(KeyboardInterrupt):
        pass

    def stop_after_two(done: int, failed: int) -> None:
        if done == 2:
            raise Stop

    with Kept(tmp_path / "answers.jsonl") as kept, pytest.raises(Stop):
        grade(judge_at(server), STORIES, kept, stop_after_two, sleep=lambda seconds: None)
    asked = len(server.requests)
    lines = (tmp_path / "answers.jsonl").read_text().splitlines()
    assert 2 <= len(lines) == asked  # what was under way is kept too
    run(server, tmp_path)
    assert len(server.requests) == 5


def test_a_half_written_line_is_cut_off_and_asked_again(server, tmp_path):
    run(server, tmp_path)
    path = tmp_path / "answers.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    run(server, tmp_path)
    assert len(server.requests) == 6
    assert len(path.read_bytes().splitlines()) == 5
    assert all(json.loads(line)["grades"] == GOOD for line in path.read_bytes().splitlines())
    path.write_bytes(b"{}\n" + whole)
    with pytest.raises(DataError, match="line 1"):
        Kept(path)


def test_a_busy_server_is_left_alone_for_as_long_as_it_says(server, tmp_path):
    server.script = [TROUBLES["429"]]
    waits: list[float] = []
    run(server, tmp_path, STORIES[:1], waits)
    assert max(waits) == pytest.approx(7, abs=0.1)


def test_waits_grow_where_the_server_says_nothing(server, tmp_path):
    server.script = [TROUBLES["500"]] * 4
    waits: list[float] = []
    run(server, tmp_path, STORIES[:1], waits)
    assert all(0.4 * 2**n < wait < 1.01 * 2**n for n, wait in enumerate(waits))
    assert len(waits) == 4


@pytest.mark.parametrize("trouble", ["500", "dropped", "late", "429"])
def test_a_server_that_stays_away_ends_it_and_what_came_is_kept(server, tmp_path, trouble):
    run(server, tmp_path, STORIES[:2])
    server.script = [TROUBLES[trouble]] * 50
    with pytest.raises(SetupError, match=f"{ATTEMPTS} times"):
        run(server, tmp_path)
    assert len((tmp_path / "answers.jsonl").read_text().splitlines()) == 2


def test_a_wait_of_hours_is_not_waited(server, tmp_path):
    server.script = [lambda handler: reply(handler, {}, 429, Retry_After="7200")]
    with pytest.raises(SetupError, match="7200 s"):
        run(server, tmp_path)


@pytest.mark.parametrize(
    ("status", "advice"), [(401, "--api-key-env"), (404, "--judge"), (400, "--no-schema"), (402, "402")]
)
def test_a_refusal_is_final_and_never_shows_the_key(server, tmp_path, status, advice):
    server.script = [lambda handler: reply(handler, {"error": f"bad key {KEY}\x1b[31m"}, status)] * 9
    judge = Judge(Endpoint(server.url, KEY), "wise", per_minute=1e6, parallel=1)
    with Kept(tmp_path / "answers.jsonl") as kept, pytest.raises(SetupError) as caught:
        grade(judge, STORIES, kept, sleep=lambda seconds: None)
    assert advice in str(caught.value)
    assert KEY not in str(caught.value) + repr(judge)
    assert "\x1b" not in str(caught.value)
    assert len(server.requests) == 1
    assert server.keys == [f"Bearer {KEY}"]


def test_the_key_follows_no_redirect_and_is_in_no_file(server, tmp_path):
    server.script = [lambda handler: reply(handler, {}, 302, Location=f"{server.url}/elsewhere")]
    judge = Judge(Endpoint(server.url, KEY), "wise", per_minute=1e6, parallel=1)
    with Kept(tmp_path / "answers.jsonl") as kept, pytest.raises(SetupError, match="302"):
        grade(judge, STORIES, kept, sleep=lambda seconds: None)
    with Kept(tmp_path / "answers.jsonl") as kept:
        grade(judge, STORIES, kept, sleep=lambda seconds: None)
    assert [one["path"] for one in server.requests] == ["/v1/chat/completions"] * 6
    assert KEY not in (tmp_path / "answers.jsonl").read_text()


@pytest.mark.parametrize(
    "url", ["ftp://a.example/v1", "localhost:8000", "https://user:pw@a.example", "http://a.example/v1"]
)
def test_addresses_that_are_none_or_would_show_the_key_are_refused(url):
    with pytest.raises(UsageError):
        Endpoint(url, KEY)


def test_without_a_schema_the_judge_is_asked_in_words_only(server, tmp_path):
    run(server, tmp_path, STORIES[:1], schema=False)
    assert "response_format" not in server.requests[0]


def test_several_are_asked_at_once_with_the_same_result(server, tmp_path):
    server.grades = lambda story: {**GOOD, "plot": int(story.split()[3]) + 1}
    found = run(server, tmp_path, parallel=5)
    assert [one.plot for one in found.grades if one] == [1, 2, 3, 4, 5]
    assert len(server.requests) == 5


def test_turns_are_spaced_and_held_back():
    now = [100.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    pace = Pace(120, clock=lambda: now[0], sleep=sleep)
    times = []
    for turn in range(5):
        pace.wait()
        times.append(now[0])
        if turn == 2:
            pace.hold(10)
    assert times == [100, 100.5, 101, 111, 111.5]


def test_backoff_doubles_to_a_minute_and_dates_are_read():
    generator = random.Random(0)
    assert all(0.5 * 2**n <= backoff(n, generator) <= 2**n for n in range(6))
    assert backoff(40, generator) <= 60
    now = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
    assert retry_after("Thu, 01 Jan 2026 12:01:30 GMT", now) == 90
    assert retry_after("Thu, 01 Jan 2026 11:00:00 GMT", now) == 0
    assert [retry_after(text) for text in ("-5", "nan", "inf", "", "later")] == [0, None, None, None, None]


@pytest.mark.parametrize("answer", ["", "[]", "{", "{}", "null", '{"grammar": NaN}', "{" * 3000])
def test_what_is_no_answer_is_refused(answer):
    with pytest.raises(BadAnswer):
        rubric.read(answer)


def test_the_estimate_is_near_what_a_tokenizer_counts(shared):
    from storylm.text.tokenizer import Tokenizer

    gpt2 = Tokenizer.load(str(shared / "reference" / "gpt2"))
    told = [
        Told("Once upon a time, there was a little girl named Nora. ", "She had a red ball and a big dog. " * 12)
    ] * 3
    counted = sum(len(gpt2.encode(part["content"])) + 4 for part in rubric.messages(told[0])) * 3
    found = estimate(told)
    assert (found.requests, found.tokens_out) == (3, 120)
    assert 0.8 < found.tokens_in / counted < 1.3
    assert len(gpt2.encode(json.dumps(GOOD))) <= 40
    assert found.money(None, 2.0) is None


def test_intervals_draw_beginnings_not_stories():
    """Ten stories of a beginning that are all alike tell no more than one."""
    one_each = [Told(f"b{n}", "x") for n in range(30)]
    ten_each = [story for story in one_each for _ in range(10)]
    values = [float(n % 7) for n in range(30)]
    few = mean_by_beginning("plot", one_each, values)
    many = mean_by_beginning("plot", ten_each, [value for value in values for _ in range(10)])
    alone = mean_by_beginning(
        "plot", [Told("", story.told) for story in ten_each], [v for v in values for _ in range(10)]
    )
    assert few.value == many.value == alone.value
    assert few.interval == pytest.approx(many.interval)

    def width(measure):
        return measure.interval[1] - measure.interval[0]

    assert width(alone) < width(many) / 2.5  # about the square root of 10
    assert mean_by_beginning("plot", one_each, [None] * 30).value is None


def test_age_groups_are_counted():
    grades = [Grades(1, 1, 1, 1, letter) for letter in "BBE"] + [None]
    assert age_groups(grades) == {"A": 0, "B": 2, "C": 0, "D": 0, "E": 1, "F": 0}


def test_the_key_goes_to_no_proxy_where_the_judge_is_on_this_machine(server, tmp_path, monkeypatch):
    with serving() as proxy:
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url.removesuffix("/v1"))
        Endpoint(server.url, KEY).ask({"messages": ["", {"content": ""}]})
        assert (server.keys, proxy.requests) == ([f"Bearer {KEY}"], [])
        Endpoint("http://judge.example/v1").ask({"messages": ["", {"content": ""}]})  # another machine, and no key
        assert [one["path"] for one in proxy.requests] == ["http://judge.example/v1/chat/completions"]


@pytest.mark.parametrize(
    "answer",
    [
        "<think>{so} a child of {four or five}</think>" + json.dumps(GOOD),
        f"<think>As {json.dumps({**GOOD, 'plot': 1})}? No.</think>\n```json\n{json.dumps(GOOD)}\n```",
        f'{json.dumps(GOOD)}\n{{"note": {{"done": true}}}}',
        "{" * 5000 + json.dumps({**GOOD, "note": {"of": {"mine": 1}}}),
        json.dumps([GOOD]),
    ],
)
def test_grades_are_found_behind_thoughts(answer):
    assert rubric.read(answer) == Grades(7, 4, 6, 5, "C")


def test_grades_that_are_none_are_not_replaced_by_a_draft():
    with pytest.raises(BadAnswer, match="grammar is 11"):
        rubric.read(f"<think>{json.dumps(GOOD)}</think>{json.dumps({**GOOD, 'grammar': 11})}")


@pytest.mark.parametrize("content", ["", None, '{"grammar": 7, "cre'])
def test_a_judge_that_is_cut_off_twice_is_not_paid_a_third_time(server, tmp_path, content):
    cut = completion("", finish="length")
    cut["choices"][0]["message"]["content"] = content
    server.script = [lambda handler: reply(handler, cut)] * ATTEMPTS
    found = run(server, tmp_path, STORIES[:1], max_tokens=77)
    assert (found.grades, len(server.requests)) == ([None], 2)
    assert "77 tokens (--judge-max-tokens)" in next(iter(found.failures))
    assert [one["max_tokens"] for one in server.requests] == [77, 77]
    assert server.requests[0]["messages"] != server.requests[1]["messages"]  # at temperature 0, the same says the same
    assert (found.tokens_in, found.tokens_out) == (600, 60)  # nothing came of them, and they are paid


def test_tokens_of_every_attempt_count(server, tmp_path):
    server.script = [TROUBLES["grade 11"], TROUBLES["no json"], TROUBLES["no choices"], TROUBLES["cut at its longest"]]
    found = run(server, tmp_path, STORIES[:1])
    row = json.loads((tmp_path / "answers.jsonl").read_text())
    assert (found.tokens_in, found.tokens_out, row["attempts"]) == (4 * 300, 4 * 30, 5)  # one answer says of none
    assert (row["tokens_in"], row["tokens_out"]) == (4 * 300, 4 * 30)


def test_a_model_that_knows_the_newer_name_of_the_length_is_asked_by_it(server, tmp_path):
    def newer(handler) -> None:
        said = "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."
        reply(handler, {"error": {"message": said, "param": "max_tokens"}}, 400)

    server.script = [newer]
    found = run(server, tmp_path, STORIES, max_tokens=1234)
    assert found.grades == [Grades(7, 4, 6, 5, "C")] * 5
    first, *others = server.requests
    assert first["max_tokens"] == 1234
    assert [(one.get("max_tokens"), one["max_completion_tokens"]) for one in others] == [(None, 1234)] * 5
    run(server, tmp_path, STORIES, max_tokens=1234)
    assert len(server.requests) == 6  # kept under the same key
    server.script = [newer, newer]
    with pytest.raises(SetupError, match="--judge-max-tokens"):
        run(server, tmp_path, STORIES, max_tokens=1235)


@pytest.mark.parametrize(
    ("said", "advice", "other"),
    [
        ("'temperature' does not support 0.0 with this model", "--judge-temperature", "--no-schema"),
        ("unknown field response_format", "--no-schema", "--judge-temperature"),
        ("max_tokens must be at most 128", "--judge-max-tokens", "--no-schema"),
    ],
)
def test_a_refusal_blames_what_the_server_names(server, tmp_path, said, advice, other):
    server.script = [lambda handler: reply(handler, {"error": said}, 400)]
    with pytest.raises(SetupError, match=advice) as caught:
        run(server, tmp_path)
    assert other not in str(caught.value)


def test_judges_of_one_name_share_nothing(server, tmp_path):
    with serving() as elsewhere:
        elsewhere.grades = lambda story: {**GOOD, "plot": 1}
        assert [one.plot for one in run(server, tmp_path).grades if one] == [5] * 5
        assert [one.plot for one in run(elsewhere, tmp_path).grades if one] == [1] * 5
        assert (len(server.requests), len(elsewhere.requests)) == (5, 5)
        written_otherwise = Judge(Endpoint(f"{server.url}/chat/completions"), "wise", per_minute=1e6, parallel=1)
        with Kept(tmp_path / "answers.jsonl") as kept:
            grade(written_otherwise, STORIES, kept)
        assert len(server.requests) == 5
        ways = [{}, {"temperature": 0.5}, {"schema": False}, {"max_tokens": 5000}, {"per_minute": 5}]
        judges = [judge_at(server, **way) for way in ways] + [judge_at(elsewhere), written_otherwise]
    assert len({one.name for one in judges}) == len({one.key(STORIES[0]) for one in judges}) == 5


@pytest.mark.parametrize("grades", [None, {}, [7, 4], {**GOOD, "grammar": 11}, {**GOOD, "age_group": 3}])
def test_a_damaged_row_is_named(server, tmp_path, grades):
    run(server, tmp_path)
    path = tmp_path / "answers.jsonl"
    first, second, *others = path.read_text().splitlines()
    row = {name: value for name, value in {**json.loads(second), "grades": grades}.items() if value is not None}
    path.write_text("\n".join([first, json.dumps(row), *others, ""]))
    with pytest.raises(DataError, match="line 2, is no answer of a judge"):
        Kept(path)


def test_figures_that_are_damaged_are_no_other_judge(tmp_path):
    row = {"rubric": rubric.fingerprint(), "grades": [GOOD, None]}
    path = tmp_path / "judged.json"
    for name, found in {"a": row, "b": {**row, "grades": [{}, GOOD]}, "c": 3, "d": {**row, "rubric": "x"}}.items():
        judged.add(path, name, found)  # type: ignore[arg-type]
    judged.add(path, "e", {"grades": row["grades"]})
    assert judged.others(path, "me", 2) == {"a": [Grades(7, 4, 6, 5, "C"), None]}
    assert judged.others(path, "a", 2) == judged.others(path, "me", 3) == {}
    path.write_text("{")
    assert judged.others(path, "me", 2) == {}
