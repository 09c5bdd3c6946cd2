"""`storylm serve` as a process."""

import asyncio
import os
import signal
import socket
import subprocess
import sys

import pytest

pytest.importorskip("uvicorn")

from reliability.visitors import MODEL, ask
from serve.process import Server
from storylm.config.errors import UsageError
from storylm.serve.server import host_names

COMMAND = [sys.executable, "-m", "storylm", "serve", MODEL]


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=120, env={**os.environ, **variables}
    )


def test_it_serves_until_it_is_told_to_end():
    with Server(MODEL) as running:
        answer = asyncio.run(ask(running.port, "/v1/models"))
        assert answer.status == 200
        assert MODEL in answer.body.decode()
        running.process.send_signal(signal.SIGINT)
        _, said = running.process.communicate(timeout=60)
        assert running.process.returncode in (0, 130, -signal.SIGINT)
        assert "Traceback" not in said


def test_mistakes_are_told_before_models_are_loaded():
    done = run("--host", "0.0.0.0", STORYLM_API_KEY="")
    assert done.returncode == 2
    assert "STORYLM_API_KEY" in done.stderr
    done = run("--host", "0.0.0.0", STORYLM_API_KEY="too-short")
    assert done.returncode == 2
    assert "9 characters" in done.stderr
    assert "too-short" not in done.stderr


def test_an_address_that_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("--port", str(port))
    assert done.returncode == 4
    assert f"cannot listen at 127.0.0.1:{port}" in done.stderr
    assert "try --port 0" in done.stderr


def test_models_are_called_by_their_folders():
    assert host_names(["runs/a", "runs/b"]) == ["a", "b"]
    assert host_names(["runs/a", "others/a"]) == ["runs/a", "others/a"]
    with pytest.raises(UsageError, match="runs/a is named twice"):
        host_names(["runs/a", "runs/a"])
