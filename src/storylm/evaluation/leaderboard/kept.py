"""What models answered before, in the cache folder, by the hash of all that an answer depends on."""

import hashlib
import json
from pathlib import Path
from typing import Any

from storylm.config.files import cache_folder, write_text
from storylm.evaluation.leaderboard.examine import Findings, Questions

NOT_ASKED = ("data", "split", "unreadable", "repaired")  # what stories are called, and what stood beside them
EDITION = 3  # of what is asked and how it is counted: raise it with any change of a figure


def key(weights: str, tokenizer: str, questions: Questions, machine: str) -> str:
    """SHA-256 of the fingerprints of weights and tokenizer, of stories and settings, and of `machine`: where, by which
    storylm."""
    where = {name: value for name, value in questions.about.items() if name not in NOT_ASKED}
    spec = [weights, tokenizer, where, machine, EDITION]
    return hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()


def known(key: str) -> Findings | None:
    """What was kept under the key; None where there is nothing, or it is damaged."""
    try:
        return Findings.from_json(json.loads(_path(key).read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None


def keep(key: str, findings: Findings) -> None:
    """Keep it for the next leaderboard."""
    content: dict[str, Any] = findings.to_json()
    write_text(_path(key), json.dumps(content, ensure_ascii=False) + "\n")


def _path(key: str) -> Path:
    return cache_folder() / "leaderboard" / f"{key}.json"
