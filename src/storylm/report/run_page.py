"""The page of `storylm report`: which run is ahead, how the loss fell, and what each run was."""

from collections.abc import Sequence
from typing import Any

from storylm.config.load import to_yaml
from storylm.report.charts import Chart, Line, picture
from storylm.report.compare import best_run, budgets, differing, judged_alike, verdict
from storylm.report.html import Html, details, element, joined, page, section, table
from storylm.report.runs import Run

AXES = {"tokens": "tokens", "seconds": "seconds of training", "FLOPs": "floating-point operations"}
MAIN = "bits-per-byte"
STORIES = 4  # of one prompt, over the run
# Small charts of what is logged with each step: title, unit, key.
LOGGED = (
    ("Learning rate", "of AdamW", "lr"),
    ("Speed", "tokens a second", "tokens_per_second"),
    ("Gradient norm", "before clipping", "gradient_norm"),
    ("Updates left out", "not finite, so far", "skipped"),
)


def run_charts(runs: Sequence[Run]) -> dict[str, Chart]:
    """Every chart of the page, by a name for its file: bits per byte first, then what is beside them."""
    charts = {}
    several = len(runs) > 1
    for axis, unit in AXES.items() if several else [("tokens", "tokens")]:
        lines = [
            Line(run.name if several else "validation", _points(run, run.passes, axis, "bits_per_byte"), number, True)
            for number, run in enumerate(runs)
        ]
        if not several:
            lines.append(Line("training", _training(runs[0]), 1, faint=True))
        title = f"Bits per byte by {axis if axis != 'seconds' else 'time'}"
        charts[f"{MAIN}-{axis.lower()}"] = Chart(title, unit, "bits per byte", lines, settled=True, small=several)
    charts["perplexity"] = _small(runs, "Perplexity of validation", "a token", "perplexity", "passes")
    for title, unit, key in LOGGED:
        if key != "skipped" or any(run.skipped for run in runs):
            charts[key.replace("_", "-")] = _small(runs, title, unit, key, "steps")
    return {name: chart for name, chart in charts.items() if any(line.points for line in chart.lines)}


def run_page(runs: Sequence[Run]) -> str:
    """One self-contained page about a run, or several side by side."""
    charts = run_charts(runs)
    several = len(runs) > 1
    main = [picture(chart, class_="chart") for name, chart in charts.items() if name.startswith(MAIN)]
    rest = [picture(chart) for name, chart in charts.items() if not name.startswith(MAIN)]
    sections = [
        section("At a glance", _about_figures(runs), _glance(runs)),
        *(
            [section("What differs", "The settings that are not the same in all runs.", _differing(runs))]
            if several
            else []
        ),
        section("How the loss fell", _about_loss(several), element("div", *main, class_="strip" if several else None)),
        section("Beside it", "By tokens.", element("div", *rest, class_="strip")),
        section("Stories on the way", "The same prompt and seed each time.", *(_stories(run, several) for run in runs)),
        section("Data", "What the model learnt from, and was judged by.", *(_data(run) for run in runs)),
        section("Settings and machine", "Every setting of each run.", *(_settings(run) for run in runs)),
    ]
    return page(" · ".join(run.name for run in runs), verdict(runs), *sections)


def _points(run: Run, records: Sequence[dict[str, Any]], axis: str, key: str) -> list[tuple[float, float | None]]:
    of = run.along(axis)
    return [(of(record), record.get(key)) for record in records]


def _training(run: Run) -> list[tuple[float, float | None]]:
    """Training loss in bits per byte, with as many bytes a token as validation has; empty before a first evaluation."""
    if run.best is None:
        return []
    factor = run.best["bits_per_byte"] / run.best["nats_per_token"]
    points = _points(run, run.steps, "tokens", "loss")
    return [(x, None if y is None else factor * y) for x, y in points]


def _small(runs: Sequence[Run], title: str, unit: str, key: str, kind: str) -> Chart:
    lines = [
        Line(run.name if len(runs) > 1 else "", _points(run, getattr(run, kind), "tokens", key), number)
        for number, run in enumerate(runs)
    ]
    return Chart(title, "tokens", unit, lines, settled=key in ("perplexity", "gradient_norm"), small=True)


def _about_loss(several: bool) -> str:
    if several:
        return "Of the validation stories, after as many tokens, as much time and as much arithmetic. Lower is better."
    return (
        "Validation stories, and training: its nats per token with as many bytes a token as validation has. Lower is "
        "better. What came before a tenth of the way runs off the top."
    )


def _about_figures(runs: Sequence[Run]) -> str:
    if not judged_alike(runs):
        return "Beware: these runs were not judged by the same stories, so their figures do not compare to the digit."
    best = "Bits per byte and perplexity are those of the best evaluation"
    if len(runs) == 1:
        return f"{best}."
    return (
        f"{best}; then bits per byte at the most that all runs have used. Runs from other seeds differ, too: "
        "by how much takes several of each to say."
    )


def _glance(runs: Sequence[Run]) -> Html:
    best, compared = best_run(runs), budgets(runs)
    names = {"tokens": "at equal tokens", "seconds": "at equal time", "FLOPs": "at equal FLOPs"}
    head = ["run", "bits per byte", *(names[budget.axis] for budget in compared), "perplexity", "parameters"]
    head += ["steps", "tokens", "time", "FLOPs", "tokens/s", "left out", ""]
    body = []
    for number, run in enumerate(runs):
        newest = run.newest
        speeds = sorted(row["tokens_per_second"] for row in run.steps if row.get("tokens_per_second"))
        cells = [
            joined([element("span", class_="key", style=f"background:var(--c{number % 7})"), run.name]),
            _marked(f"{run.best['bits_per_byte']:.4f}" if run.best else "-", run is best),
            *(_figure(budget.figures[run.name], budget.winner == run.name) for budget in compared),
            f"{run.best['perplexity']:,.3g}" if run.best and run.best.get("perplexity") else "-",
            f"{run.parameters:,}",
            f"{newest.get('step', 0):,}",
            _short(newest.get("tokens", 0)),
            _time(newest.get("seconds", 0.0)),
            f"{newest.get('tokens', 0) * run.flops_per_token:.2g}",
            f"{speeds[len(speeds) // 2]:,.0f}" if speeds else "-",
            f"{run.skipped:,}",
            run.ended or "not finished",
        ]
        body.append(cells)
    return table(head, body, numbers=range(1, len(head) - 1))


def _figure(value: float | None, wins: bool) -> str:
    return "-" if value is None else _marked(f"{value:.4f}", wins)


def _marked(text: str, wins: bool) -> str:
    return element("strong", text) if wins else text


def _differing(runs: Sequence[Run]) -> Html:
    rows = differing(runs)
    if not rows:
        return element("p", "None: the runs differ in what is not a setting, such as the machine.")
    return table(["setting", *(run.name for run in runs)], [[name, *map(str, values)] for name, values in rows.items()])


def _stories(run: Run, several: bool) -> Html:
    """The first prompt's story at a few steps, the last one always; the other prompts' behind a click."""
    name = [element("h3", run.name)] if several else []
    if not run.samples:
        return element("div", *name, element("p", "None told yet.", class_="soft"))
    count = max(1, len(run.config.train.sample_prompts))
    prompts = [run.samples[number::count] for number in range(min(count, len(run.samples)))]
    shown, *others = [_spread(of_prompt) for of_prompt in prompts]
    more = [details(f"Another prompt: {of[-1][1][:30]}…", *(_told(*story) for story in of)) for of in others]
    if several:
        last = shown[-1]
        return element(
            "div", *name, _told(*last), details("Earlier ones", *(_told(*story) for story in shown[:-1])), *more
        )
    return element("div", *(_told(*story) for story in shown), *more)


def _spread(stories: Sequence[tuple[int, str]]) -> list[tuple[int, str]]:
    """The first, the last, and some between."""
    last = len(stories) - 1
    return [stories[at] for at in sorted({round(last * part / (STORIES - 1)) for part in range(STORIES)})]


def _told(step: int, story: str) -> Html:
    return element("div", element("p", f"Step {step:,}", class_="soft"), element("blockquote", story))


def _data(run: Run) -> Html:
    session = run.sessions[-1] if run.sessions else {}
    rows = []
    for split, counts in session.get("stories", {}).items():
        dropped = (
            ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in counts["dropped"].items()) or "none"
        )
        figures = (f"{counts[kind]:,}" for kind in ("stories", "tokens", "bytes"))
        rows.append([split, *figures, f"{counts['bytes'] / max(1, counts['tokens']):.2f}", dropped])
    hashes = [
        f"{what} {session[key][:16]}…"
        for what, key in (("prepared stories", "data"), ("tokenizer", "tokenizer"))
        if key in session
    ]
    about = f"{run.name}: {run.config.data.source}. SHA-256: {', '.join(hashes) or 'not recorded'}."
    shown = [
        table(["split", "stories", "tokens", "bytes", "bytes/token", "dropped by cleaning"], rows, numbers=(1, 2, 3, 4))
    ]
    return element("div", element("p", about), *(shown if rows else []))


def _settings(run: Run) -> Html:
    rows = []
    for session in run.sessions:
        software, machine = session.get("software", {}), session.get("machine", {})
        devices = ", ".join(machine.get("gpus") or []) or f"{machine.get('cpu')}, {machine.get('cores')} cores"
        rows.append([str(session.get("started")), str(software.get("storylm")), str(software.get("torch")), devices])
    began = table(["started", "storylm", "torch", "device"], rows)
    return details(run.name, began, element("pre", element("code", to_yaml(run.config))))


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _short(count: float) -> str:
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g}{letter}"
    return f"{count:g}"
