"""`storylm plan`: what a run will take, before it is begun."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from storylm.cli.options import preset_names

if TYPE_CHECKING:
    from storylm.training.plan import Plan


def plan(
    preset: str | None = typer.Argument(
        None,
        help="A preset (see `storylm presets`); may be left out with --config.",
        autocompletion=preset_names,
    ),
    overrides: list[str] = typer.Argument(None, metavar="[KEY=VALUE]...", help="Settings, as in train.minutes=10."),
    config_file: Path = typer.Option(None, "--config", help="A YAML file of settings, over the preset's."),
    probe: bool = typer.Option(
        True, "--probe/--no-probe", help="Rehearse some steps of the run to measure speed and memory."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON, with null for what is not known."),
) -> None:
    """Say what a run will take on this machine: parameters, arithmetic, memory, disk and time. Downloads nothing."""
    import json
    from dataclasses import asdict

    from storylm.config.errors import UsageError
    from storylm.config.load import resolve

    if preset is not None and "=" in preset:  # no preset, only settings
        preset, overrides = None, [preset, *(overrides or [])]
    if preset is None and config_file is None and not overrides:
        raise UsageError("say what to plan: a preset (see `storylm presets`) or --config FILE")
    config = resolve(preset, config_file, overrides or []).config
    for source in filter(None, (config.data.source, config.data.validation)):
        _check_source(source)

    from rich.console import Console

    from storylm.training.plan import plan_run

    with Console(stderr=True, highlight=False).status("planning") as status:  # nothing where that is no terminal
        plan = plan_run(config, probe, lambda doing: status.update(f"rehearsing: {doing}"))
    if as_json:
        print(json.dumps(asdict(plan), indent=2))
        return
    for name, value in _rows(plan, config.train.minutes is not None).items():
        print(f"{name:<16} {value}")


def _rows(plan: "Plan", by_the_clock: bool) -> dict[str, str]:
    """A line for each thing, in words and units."""
    unknown = "known from a probe" if by_the_clock else "known once the stories are prepared"
    how = f"in {plan.precision} on {plan.device}{', compiled' if plan.compiled else ''}"
    source = "measured" if plan.memory_measured else "estimated"
    rows = {
        "parameters": f"{plan.parameters:,}",
        "FLOPs per token": f"{plan.flops_per_token / 1e6:,.1f} million, forward and backward",
        "memory": f"{size(plan.memory_bytes)} at the peak {how}, {source}",
        "disk": f"{size(plan.disk_bytes)} of checkpoints",
        "tokens": unknown if plan.tokens is None else f"{plan.tokens:,} ({plan.tokens_per_step:,} a step)",
        "steps": unknown if plan.steps is None else f"{plan.steps:,}",
        "speed": "not measured",
        "time": "unknown" if plan.seconds is None else duration(plan.seconds),
    }
    if plan.tokens_per_second is not None and plan.share_of_peak is not None:
        rows["speed"] = f"{plan.tokens_per_second:,.0f} tokens/s, {plan.share_of_peak:.1%} of this machine's peak"
    if plan.seconds is not None and plan.compile_seconds is not None and plan.other_seconds is not None:
        judging = "judging, telling and" if plan.validation_stories is not None else "telling and"
        rows["time"] += (
            f": {duration(plan.compile_seconds)} to compile, {duration(plan.other_seconds)} for {judging} saving, "
            f"the rest for steps"
        )
    return rows


def _check_source(spec: str) -> None:
    """Refuse what training would refuse, as far as that can be told without asking the Hub."""
    from storylm.config.files import expanded
    from storylm.data.corpora import CORPORA
    from storylm.data.formats import format_of
    from storylm.data.sources import open_source

    name = spec.partition("?")[0]
    path = expanded(name)
    on_the_hub = name.count("/") == 1 and name[0].isalnum() and format_of(name) is None and not path.parent.is_dir()
    if not (name in CORPORA or path.exists() or on_the_hub):
        open_source(spec)


def size(count: float) -> str:
    """
    >>> size(1_234_567)
    '1.23 MB'
    """
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} TB"


def duration(seconds: float) -> str:
    """
    >>> duration(5000)
    '83 min'
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours < 48 else f"{hours / 24:,.0f} days"
