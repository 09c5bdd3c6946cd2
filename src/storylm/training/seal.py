"""The manifest that closes a checkpoint: what is in it, to the byte, and whether it still is."""

import hashlib
import json
from pathlib import Path
from typing import Any

from storylm.config.files import sha256

MANIFEST = "manifest.json"
SCHEMA = 1


def seal(folder: Path, step: int) -> None:
    """Write `manifest.json`: schema, step, and size and SHA-256 of every file in `folder`. Written last."""
    files = {path.name: {"size": path.stat().st_size, "sha256": sha256(path)} for path in sorted(folder.iterdir())}
    (folder / MANIFEST).write_bytes(_render({"schema": SCHEMA, "step": step, "files": files}))


def read_seal(folder: Path) -> dict[str, Any] | None:
    """What the manifest says, or None where there is none or it is damaged."""
    try:
        data = (folder / MANIFEST).read_bytes()
        content = json.loads(data)
        del content["sha256"]
        return content if data == _render(content) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def damage(folder: Path) -> str | None:
    """What is wrong with the checkpoint in `folder`, in a few words; None where every byte is as it was written."""
    content = read_seal(folder)
    if content is None:
        return f"{MANIFEST} is damaged" if (folder / MANIFEST).exists() else f"{MANIFEST} is missing"
    if content["schema"] != SCHEMA:
        return f"{MANIFEST} has schema {content['schema']}, this version of storylm reads {SCHEMA}"
    for name, expected in content["files"].items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if (size := path.stat().st_size) != expected["size"]:
            return f"{name} has {size:,} bytes instead of {expected['size']:,}"
        try:
            if sha256(path) != expected["sha256"]:
                return f"{name} has changed since it was written (SHA-256)"
        except OSError as error:
            return f"{name} cannot be read: {error}"
    return None


def _render(content: dict[str, Any]) -> bytes:
    """The only way to write this content. It carries its own hash: a flipped bit in the manifest shows as well."""
    own = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return (json.dumps({**content, "sha256": own}, indent=1) + "\n").encode()
