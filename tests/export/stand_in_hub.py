"""A Hub of one's own: a local HTTP server that speaks as much of its API as uploading and downloading a model takes.

As huggingface_hub asks: /api/repos/create, preupload (which files go by LFS), the LFS batch and its PUTs, commit; then
revision, tree, resolve.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_theSecretOfTheTests"
COMMIT = "c" * 40


@dataclass
class Repository:
    private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)


class StandInHub(ThreadingHTTPServer):
    """`repositories` by name, `blobs` by SHA-256, `requests` as "METHOD path"."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, Repository] = {}
        self.blobs: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.refuse: int | None = None  # answer everything with this status

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def stand_in_hub() -> Iterator[StandInHub]:
    """A server that runs until the block ends."""
    hub = StandInHub()
    thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        thread.join()
        hub.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: StandInHub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on the terminal."""

    def do_POST(self) -> None:
        self._answer(
            {
                r"/api/repos/create": self._create,
                r"/api/models/(?P<repo>[^/]+/[^/]+)/preupload/main": self._preupload,
                r"/(?P<repo>[^/]+/[^/]+)\.git/info/lfs/objects/batch": self._batch,
                r"/api/models/(?P<repo>[^/]+/[^/]+)/commit/main": self._commit,
                r"/api/validate-yaml": lambda body: {"warnings": [], "errors": []},
            }
        )

    def do_PUT(self) -> None:
        self._answer({r"/blobs/(?P<digest>[0-9a-f]{64})": self._put})

    def do_GET(self) -> None:
        self._answer(
            {
                r"/api/models/(?P<repo>[^/]+/[^/]+)(/revision/\w+)?": self._info,
                r"/api/models/(?P<repo>[^/]+/[^/]+)/tree/\w+": self._tree,
                r"/(?P<repo>[^/]+/[^/]+)/resolve/\w+/(?P<path>.+)": self._resolve,
            }
        )

    do_HEAD = do_GET  # noqa: N815

    def _answer(self, routes: dict[str, Any]) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.partition("?")[0]
        self.server.requests.append(f"{self.command} {path}")
        is_blob = path.startswith("/blobs/")  # where the Hub gives a signed address
        if self.server.refuse or not (is_blob or self.headers.get("Authorization") == f"Bearer {TOKEN}"):
            return self._send(self.server.refuse or 401, b'{"error": "no"}')
        for pattern, route in routes.items():
            if match := re.fullmatch(pattern, path):
                found = route(body, **match.groupdict())
                status, found = found if isinstance(found, tuple) else (404 if found is None else 200, found)
                data = found if isinstance(found, bytes) else json.dumps(found).encode()
                return self._send(status, data)
        return self._send(404, b"")

    def _send(self, status: int, data: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if status == 200 and "/resolve/" in self.path:
            self.send_header("ETag", f'"{hashlib.sha1(data).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _create(self, body: bytes) -> tuple[int, dict[str, Any]]:
        asked = json.loads(body)
        name = "/".join(part for part in (asked.get("organization"), asked["name"]) if part)
        private = asked.get("private", asked.get("visibility") == "private")
        status = 409 if name in self.server.repositories else 200
        self.server.repositories.setdefault(name, Repository(private))
        return status, {"url": f"{self.server.address}/{name}", "name": name, "id": name}

    def _preupload(self, body: bytes, repo: str) -> dict[str, Any]:
        files = json.loads(body)["files"]
        modes = [
            {"path": file["path"], "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular"}
            for file in files
        ]
        return {"files": [{**mode, "shouldIgnore": False, "oid": None} for mode in modes]}

    def _batch(self, body: bytes, repo: str) -> dict[str, Any]:
        objects = json.loads(body)["objects"]
        addresses = {item["oid"]: f"{self.server.address}/blobs/{item['oid']}" for item in objects}
        actions = [{**item, "actions": {"upload": {"href": addresses[item["oid"]], "header": {}}}} for item in objects]
        return {"transfer": "basic", "objects": actions}

    def _put(self, body: bytes, digest: str) -> dict[str, Any] | None:
        if hashlib.sha256(body).hexdigest() != digest:
            return None
        self.server.blobs[digest] = body
        return {}

    def _commit(self, body: bytes, repo: str) -> dict[str, Any]:
        repository = self.server.repositories[repo]
        for line in body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "header":
                repository.commits.append(value["summary"])
            elif item["key"] == "file":
                repository.files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                repository.files[value["path"]] = self.server.blobs[value["oid"]]
        return {"success": True, "commitUrl": f"{self.server.address}/{repo}/commit/{COMMIT}", "commitOid": COMMIT}

    def _info(self, body: bytes, repo: str) -> dict[str, Any] | None:
        repository = self.server.repositories.get(repo)
        if repository is None:
            return None
        files = [{"rfilename": path, "size": len(data)} for path, data in repository.files.items()]
        return {"id": repo, "sha": COMMIT, "private": repository.private, "siblings": files}

    def _tree(self, body: bytes, repo: str) -> list[dict[str, Any]]:
        return [
            {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
            for path, data in self.server.repositories[repo].files.items()
        ]

    def _resolve(self, body: bytes, repo: str, path: str) -> bytes | None:
        return self.server.repositories[repo].files.get(path)
