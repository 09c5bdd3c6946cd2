"""A server for everyone: what `--public` and `--allow-frame` open, and what stays shut."""

import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml
from fastapi.testclient import TestClient

from storylm.config.errors import UsageError
from storylm.serve.api import create_app
from storylm.serve.settings import ServeSettings

SPACE = Path(__file__).parents[2] / "examples" / "space"
FRAMES = "frame-ancestors {};"


def ask(settings: ServeSettings, path: str, host: str = "localhost"):
    return TestClient(create_app([], settings), base_url=f"http://{host}").get(path)


def test_an_address_of_others_needs_a_key_or_the_word_public() -> None:
    with pytest.raises(UsageError, match=r"STORYLM_API_KEY.*--public"):
        ServeSettings(host="0.0.0.0")
    assert ServeSettings(host="0.0.0.0", public=True).api_key is None
    with pytest.raises(UsageError, match="asks nobody for a key"):
        ServeSettings(host="0.0.0.0", public=True, api_key="a key that is long enough")


def test_public_opens_all_but_the_figures_and_still_checks_the_name() -> None:
    public = ServeSettings(host="0.0.0.0", public=True, allowed_hosts=("me-tales.hf.space",))
    for path in ("/", "/health", "/v1/models", "/static/main.js"):
        assert ask(public, path, "me-tales.hf.space").status_code == 200
    assert ask(public, "/metrics", "me-tales.hf.space").status_code == 404
    assert ask(public, "/", "elsewhere.example").status_code == 400
    assert ask(ServeSettings(), "/metrics").status_code == 200


def test_nobody_frames_the_page_but_whom_it_names() -> None:
    assert FRAMES.format("'none'") in ask(ServeSettings(), "/").headers["content-security-policy"]
    named = ServeSettings(frame_origins=("https://huggingface.co", "http://localhost:3000"))
    policy = ask(named, "/").headers["content-security-policy"]
    assert FRAMES.format("https://huggingface.co http://localhost:3000") in policy
    assert policy.startswith("default-src 'self';")


NO_ORIGINS = ["*", "https://*", "https://*.hf.space", "huggingface.co", "https://a.b/path", "https:", "javascript:x"]
BROKEN = ["", "https://a.b ", "https://a.b; script-src *", "https://a.b\r\nx: y"]


@pytest.mark.parametrize("origin", NO_ORIGINS + BROKEN)
def test_a_frame_is_allowed_to_an_origin_alone(origin: str) -> None:
    with pytest.raises(UsageError, match="is no origin"):
        ServeSettings(frame_origins=(origin,))


def test_a_page_is_asked_for_again_after_an_update() -> None:
    assert ask(ServeSettings(), "/static/main.js").headers["cache-control"] == "no-cache"


def test_the_spaces_header_and_image_agree() -> None:
    _, header, _ = (SPACE / "README.md").read_text(encoding="utf-8").split("---", 2)
    about = yaml.safe_load(header)
    assert about["sdk"] == "docker"
    image = (SPACE / "Dockerfile").read_text(encoding="utf-8")
    assert re.findall(r"^EXPOSE (\d+)$", image, re.MULTILINE) == [str(about["app_port"])]
    assert f"PORT:-{about['app_port']}" in (SPACE / "start.sh").read_text(encoding="utf-8")
    assert "start.sh" in image


def test_the_space_starts_and_answers_by_its_own_name(tmp_path: Path) -> None:
    if os.name == "nt" or shutil.which("sh") is None:
        pytest.skip("a container's script: no sh here")
    command = tmp_path / "storylm"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m storylm "$@"\n')
    command.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
        "PORT": "0",
        "SPACE_HOST": "me-tales.hf.space",
    }
    environment.pop("STORYLM_API_KEY", None)
    with subprocess.Popen(
        ["sh", str(SPACE / "start.sh")], env=environment, stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stderr is not None
            said = server.stderr.readline()
            port = re.search(r"serving grammar-1m at http://0\.0\.0\.0:(\d+)", said)
            assert port, said
            request = urllib.request.Request(f"http://127.0.0.1:{port[1]}/v1/models")
            request.add_header("host", "me-tales.hf.space")
            with urllib.request.urlopen(request, timeout=30) as answer:
                assert answer.status == 200
                assert FRAMES.format("https://huggingface.co") in answer.headers["content-security-policy"]
            request.add_header("host", "elsewhere.example")
            with pytest.raises(urllib.error.HTTPError, match="400"):
                urllib.request.urlopen(request, timeout=30).close()
        finally:
            server.terminate()
