"""A stand-in for the Hugging Face hub: repositories in memory, as far as uploading a model asks for them.

What it answers is as in huggingface_hub's own calls (hf_api.py, _commit_api.py, lfs.py); no Xet.
"""

import base64
import hashlib
import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import yaml

TOKEN = "hf_stand_in"


class HubServer:
    """`repos`: files by branch by name. `stored`: large files by sha256. `fault` may answer a request in its place."""

    def __init__(self) -> None:
        self.repos: dict[str, dict[str, dict[str, bytes]]] = {}
        self.private: dict[str, str | None] = {}
        self.stored: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.fault: Any = None
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                path = urlsplit(self.path).path
                hub.asked.append(f"{self.command} {path}")
                status, answer, headers = hub.answer(self.command, path, body, dict(self.headers))
                data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                for name, value in {"Content-Length": str(len(data)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PUT = _answer  # noqa: N815

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, Any, dict[str, str]]:
        if self.fault and (found := self.fault(method, path)):
            return found
        if match := re.fullmatch(r"/storage/(\w+)", path):
            assert hashlib.sha256(body).hexdigest() == match[1]
            self.stored[match[1]] = body
            return 200, {}, {}
        if path == "/api/validate-yaml":
            return _validate(json.loads(body)["content"])
        if headers.get("authorization", headers.get("Authorization")) != f"Bearer {TOKEN}":
            return 401, {"error": "Invalid user token."}, {"X-Error-Message": "Invalid user token."}
        if path == "/api/repos/create":
            wanted = json.loads(body)
            name = f"{wanted['organization']}/{wanted['name']}"
            if name in self.repos:
                return 409, {"error": "exists", "url": f"{self.url}/{name}"}, {}
            self.repos[name], self.private[name] = {"main": {".gitattributes": b"x"}}, wanted.get("visibility")
            return 200, {"url": f"{self.url}/{name}"}, {}
        if match := re.fullmatch(r"/([\w.-]+/[\w.-]+)\.git/info/lfs/objects/batch", path):
            return 200, {"transfer": "basic", "objects": [*map(self._batch, json.loads(body)["objects"])]}, {}
        match = re.fullmatch(r"/api/models/([\w.-]+/[\w.-]+)(?:/(\w+)(?:/([\w.-]+))?)?", path)
        if not match or match[1] not in self.repos:
            return 404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"}
        return self._of_repo(match[1], match[2], match[3], body)

    def _of_repo(self, name: str, what: str, branch: str, body: bytes) -> tuple[int, Any, dict[str, str]]:
        branches = self.repos[name]
        if what == "refs":
            refs = [{"name": one, "ref": f"refs/heads/{one}", "targetCommit": "0" * 40} for one in branches]
            return 200, {"branches": refs, "converts": [], "tags": []}, {}
        if what == "branch":
            branches[branch] = dict(branches["main"])
            return 200, {}, {}
        if branch not in branches:
            return 404, {"error": "no such revision"}, {"X-Error-Code": "RevisionNotFound"}
        if what == "tree":
            files = branches[branch].items()
            return 200, [{"type": "file", "path": one, "size": len(data), "oid": "0" * 40} for one, data in files], {}
        if what == "preupload":
            asked = json.loads(body)["files"]
            modes = [
                {
                    "path": one["path"],
                    "uploadMode": "lfs" if one["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                    "oid": None,
                }
                for one in asked
            ]
            return 200, {"files": modes}, {}
        assert what == "commit"
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                branches[branch][value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                branches[branch][value["path"]] = self.stored[value["oid"]]
            elif line["key"] == "deletedFile":
                del branches[branch][value["path"]]
        return 200, {"commitUrl": f"{self.url}/{name}/commit/{'1' * 40}", "commitOid": "1" * 40}, {}

    def _batch(self, item: dict[str, Any]) -> dict[str, Any]:
        if item["oid"] in self.stored:
            return item
        return {**item, "actions": {"upload": {"href": f"{self.url}/storage/{item['oid']}"}}}


def _validate(card: str) -> tuple[int, Any, dict[str, str]]:
    """What the hub refuses of a model's metadata, as far as this project could write it."""
    errors = []
    found = yaml.safe_load(card.split("---")[1]) if card.startswith("---") else {}
    if found.get("license") == "other" and not found.get("license_name"):
        errors.append("license_name is required for the license `other`")
    for model in found.get("model-index", []):
        for result in model["results"]:
            if not {"type", "name"} <= result["dataset"].keys() or not all("value" in one for one in result["metrics"]):
                errors.append("model-index: incomplete")
    status = 400 if errors else 200
    return status, {"errors": [{"message": one} for one in errors], "warnings": []}, {}
