"""Real clients over a socket: the commands of docs/serving.md as they stand there, and the openai package."""

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import storylm
from reliability.visitors import MODEL, Server, server

PAGE = Path(__file__).parents[2] / "docs" / "serving.md"
PROMPT = "Once upon a time"


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    with server() as started:
        yield started


def told(seed: int, count: int) -> str:
    """What `generate` tells, at the API's temperature."""
    return storylm.generate(*storylm.load(MODEL), PROMPT, seed=seed, max_new_tokens=count, temperature=1.0)[0]


def curl(running: Server) -> list[str]:
    """What the page's commands print, in their order; here the server has another port."""
    if shutil.which("curl") is None:
        pytest.skip("no curl here")
    commands = re.findall(r"^    (curl (?:.*\\\n)*.*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(commands) == 2
    printed = []
    for command in commands:
        words = shlex.split(command.replace(":8000", f":{running.port}").replace("\\\n", " "))
        done = subprocess.run([*words, "--silent", "--show-error"], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        printed.append(done.stdout)
    return printed


def test_the_pages_curl_commands_tell_what_generate_tells(running):
    whole, stream = curl(running)
    story = json.loads(whole)["choices"][0]
    assert PROMPT + story["text"] == told(seed=1, count=100)
    events = [line.removeprefix("data: ") for line in stream.splitlines() if line]
    assert events[-1] == "[DONE]"
    pieces = [json.loads(event)["choices"][0] for event in events[:-1]]
    assert len(pieces) > 10
    assert "".join(piece["text"] for piece in pieces) == story["text"]
    assert pieces[-1]["finish_reason"] == story["finish_reason"]


def test_the_openai_package_over_a_socket(running):
    from openai import BadRequestError, OpenAI

    with OpenAI(base_url=f"http://127.0.0.1:{running.port}/v1", api_key="none", max_retries=0) as client:
        assert [model.id for model in client.models.list()] == [MODEL]
        asked = {"model": MODEL, "prompt": PROMPT, "max_tokens": 30, "seed": 4, "logprobs": 2}
        said = client.completions.create(**asked)
        assert PROMPT + said.choices[0].text == told(seed=4, count=30)
        assert said.choices[0].logprobs is not None
        assert said.usage is not None
        assert len(said.choices[0].logprobs.tokens) == said.usage.completion_tokens
        assert said.choices[0].token_ids  # what is ours comes along
        with client.completions.create(**asked, stream=True, stream_options={"include_usage": True}) as stream:
            *pieces, last = stream
        assert "".join(piece.choices[0].text for piece in pieces) == said.choices[0].text
        assert last.usage == said.usage
        with pytest.raises(BadRequestError, match="model's context is"):
            client.completions.create(model=MODEL, prompt=PROMPT * 2000)
