"""A `storylm serve` process, and what tests ask of it."""

import json
import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlencode


class Server:
    """A `storylm serve` process and its address; ended by `close`, or at the end of a `with`."""

    def __init__(self, *arguments: str, key: str | None = None, **variables: str):
        environment = {**os.environ, **variables, **({"STORYLM_API_KEY": key} if key else {})}
        command = [sys.executable, "-m", "storylm", "serve", *arguments, "--port", "0"]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        assert self.process.stderr is not None
        said = ""
        for line in self.process.stderr:
            said += line
            if found := re.search(r" at (http://\S+:(\d+))", line):
                self.url, self.port = found[1], int(found[2])
                return
        raise AssertionError(f"the server did not start: {said}")

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def address(self, **settings: Any) -> str:
        """The page with these settings; `told=1` has it tell at once."""
        return f"{self.url}/#{urlencode(settings)}"

    def post(self, path: str, **body: Any) -> Any:
        """The JSON that the API answers."""
        request = urllib.request.Request(
            self.url + path, json.dumps(body).encode(), {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def figure(self, name: str) -> float:
        """Of /metrics, by its name with its labels."""
        with urllib.request.urlopen(self.url + "/metrics", timeout=60) as answer:
            return figure(answer.read().decode(), name)

    def tokens_told(self) -> float:
        """As /metrics has it."""
        return self.figure("storylm_tokens_told_total")

    def peak_bytes(self) -> int:
        """The most memory it ever had resident."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return 1024 * int(status.split("VmHWM:")[1].split()[0])

    def close(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.communicate(timeout=60)


def figure(metrics: str, name: str) -> float:
    """Of what /metrics answers, by its name with its labels; 0 where nothing was counted yet."""
    found = re.search(rf"^{re.escape(name)} (\S+)$", metrics, re.MULTILINE)
    return float(found[1]) if found else 0.0
