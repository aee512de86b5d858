"""An MLflow tracking server over HTTP: a few calls of its public REST interface.

Takes artefacts through the server (``mlflow-artifacts:``). Follows no redirect, so that a password
goes to the server that was named and nowhere else.
"""

# ruff: noqa: D102  (Store documents the methods)

from __future__ import annotations

import base64
import json
import os
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from converters.errors import ConversionError, UnsupportedModelError
from converters.registries.files import MAX_FILES
from converters.registries.mlflow_store import ModelVersion
from converters.registries.mlflow_uri import ModelUri
from edged.errors import DeniedError, NotFoundError

TIMEOUT_S = 60.0
"""A server on a slow disk answers within seconds; a dead one is told after a minute."""
MAX_ANSWER_BYTES = 16 << 20
MAX_DOWNLOAD_BYTES = 16 << 30
MAX_DEPTH = 16
_CHUNK_BYTES = 1 << 20


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Refuse: the answer's status is then the error."""


class ServerStore:
    """A registry behind HTTP."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if not parts.hostname or parts.username is not None:
            raise ConversionError(
                f'"{parts._replace(netloc=parts.hostname or "").geturl()}": expected http(s)://HOST'
                "[:PORT]; a name and password go into MLFLOW_TRACKING_USERNAME and _PASSWORD"
            )
        self._url = url.rstrip("/")
        self._opener = urllib.request.build_opener(_NoRedirects)

    def version(self, uri: ModelUri) -> ModelVersion:
        if uri.alias:
            query = {"name": uri.name, "alias": uri.alias}
            answer = self._get("mlflow/registered-models/alias", query, uri.said)
        else:
            number = uri.version or self._latest(uri)
            query = {"name": uri.name, "version": str(number)}
            answer = self._get("mlflow/model-versions/get", query, uri.said)
        entry = _mapping(answer, "model_version")
        number = int(entry.get("version") or 0)
        where = self._get(
            "mlflow/model-versions/get-download-uri",
            {"name": uri.name, "version": str(number)}, uri.said,
        )  # fmt: skip
        source = str(entry.get("source") or "")
        tags = entry.get("tags") or []
        return ModelVersion(
            uri.name, number, str(where.get("artifact_uri")), str(entry.get("run_id") or ""),
            source.removeprefix("models:/") if source.startswith("models:/m-") else "",
            {str(tag.get("key")): str(tag.get("value")) for tag in tags if isinstance(tag, dict)},
        )  # fmt: skip

    def _latest(self, uri: ModelUri) -> int:
        text = uri.name.replace("'", "''")
        query = {"filter": f"name='{text}'", "max_results": "1", "order_by": "version_number DESC"}
        entries = self._get("mlflow/model-versions/search", query, uri.said).get("model_versions")
        if not entries:
            raise NotFoundError(f"{uri.said} is not in the registry {self._url}")
        return int(_mapping({"entry": entries[0]}, "entry").get("version") or 0)

    def logged_model(self, model_id: str) -> str:
        return str(self._logged(model_id).get("artifact_uri"))

    def _logged(self, model_id: str) -> dict[str, Any]:
        path = f"mlflow/logged-models/{quote(model_id, safe='')}"
        answer = self._get(path, {}, f"models:/{model_id}")
        return _mapping(_mapping(answer, "model"), "info")

    def run_model(self, run_id: str, path: str) -> str:
        run = _mapping(self._get("mlflow/runs/get", {"run_id": run_id}, f"runs:/{run_id}"), "run")
        outputs = run.get("outputs")
        models = outputs.get("model_outputs", []) if isinstance(outputs, dict) else []
        for entry in models:
            model = self._logged(str(entry.get("model_id")))
            if model.get("name") == path:
                return str(model.get("artifact_uri"))
        return f"{_mapping(run, 'info').get('artifact_uri')}/{path}"

    def fetch(self, location: str, folder: Path) -> Path:
        root = self._artifact_path(location)
        target = folder / "model"
        target.mkdir()
        waiting, files, total = [("", 0)], 0, 0
        while waiting:
            below, depth = waiting.pop()
            query = {"path": f"{root}/{below}".rstrip("/")}
            listed = self._get("mlflow-artifacts/artifacts", query, location).get("files") or []
            for entry in listed:
                name = str(entry.get("path"))
                if "/" in name or "\\" in name or name in ("", ".", ".."):
                    raise ConversionError(f'the server lists "{name}", which is no file name')
                path = f"{below}/{name}".lstrip("/")
                files += 1
                if files > MAX_FILES or depth > MAX_DEPTH:
                    raise ConversionError(f'"{location}" holds too many or too deep files')
                if entry.get("is_dir"):
                    (target / path).mkdir()
                    waiting.append((path, depth + 1))
                else:
                    total += self._download(f"{root}/{path}", target / path, total)
        if not files:
            raise NotFoundError(f'"{location}" is empty on the server {self._url}')
        return target

    def _download(self, path: str, target: Path, so_far: int) -> int:
        size = 0
        url = f"{self._url}/api/2.0/mlflow-artifacts/artifacts/{quote(path)}"
        try:
            request = self._request(url)
            with (
                self._opener.open(request, timeout=TIMEOUT_S) as answer,
                target.open("xb") as file,
            ):
                while chunk := answer.read(_CHUNK_BYTES):
                    size += len(chunk)
                    if so_far + size > MAX_DOWNLOAD_BYTES:
                        raise ConversionError(f'"{path}": over {MAX_DOWNLOAD_BYTES} bytes')
                    file.write(chunk)
        except urllib.error.HTTPError as exc:
            raise self._explain(exc, path) from exc
        except (OSError, HTTPException) as exc:
            raise ConversionError(f'"{path}" could not be downloaded: {exc}') from exc
        return size

    def set_tags(self, version: ModelVersion, tags: dict[str, str]) -> None:
        for key, value in tags.items():
            body = {"name": version.name, "version": str(version.version),
                    "key": key, "value": value}  # fmt: skip
            self._post("mlflow/model-versions/set-tag", body)

    def set_alias(self, version: ModelVersion, alias: str) -> None:
        body = {"name": version.name, "alias": alias, "version": str(version.version)}
        self._post("mlflow/registered-models/alias", body)

    def put(self, location: str, name: str, data: bytes) -> None:
        path = quote(f"{self._artifact_path(location)}/{name}")
        url = f"{self._url}/api/2.0/mlflow-artifacts/artifacts/{path}"
        self._ask(self._request(url, data, "PUT"), name)

    def _artifact_path(self, location: str) -> str:
        parts = urlsplit(location)
        if parts.scheme != "mlflow-artifacts":
            raise UnsupportedModelError(
                f'the server keeps this model in "{location}", which it does not hand out itself: '
                'fetch it with "mlflow artifacts download" and convert the folder'
            )
        return parts.path.strip("/")

    def _get(self, path: str, query: dict[str, str], what: str) -> dict[str, Any]:
        url = f"{self._url}/api/2.0/{path}?{urlencode(query)}"
        return self._ask(self._request(url), what)

    def _post(self, path: str, body: dict[str, str]) -> dict[str, Any]:
        data = json.dumps(body).encode("utf-8")
        return self._ask(self._request(f"{self._url}/api/2.0/{path}", data, "POST"), path)

    def _request(
        self, url: str, data: bytes | None = None, method: str = "GET"
    ) -> urllib.request.Request:
        request = urllib.request.Request(url, data, method=method)  # noqa: S310  (http(s) only)
        if method == "POST":
            request.add_header("Content-Type", "application/json")
        token = os.environ.get("MLFLOW_TRACKING_TOKEN")
        name = os.environ.get("MLFLOW_TRACKING_USERNAME")
        if name:
            pair = f"{name}:{os.environ.get('MLFLOW_TRACKING_PASSWORD', '')}"
            request.add_header("Authorization", f"Basic {base64.b64encode(pair.encode()).decode()}")
        elif token:
            request.add_header("Authorization", f"Bearer {token}")
        return request

    def _ask(self, request: urllib.request.Request, what: str) -> dict[str, Any]:
        try:
            with self._opener.open(request, timeout=TIMEOUT_S) as answer:
                data = answer.read(MAX_ANSWER_BYTES + 1)
            value = json.loads(data) if data.strip() else {}
        except urllib.error.HTTPError as exc:
            raise self._explain(exc, what) from exc
        except (OSError, HTTPException) as exc:
            reason = getattr(exc, "reason", None) or exc
            raise ConversionError(f"the tracking server {self._url}: {reason}") from exc
        except (ValueError, RecursionError) as exc:
            raise ConversionError(f"{self._url} did not answer in JSON: is it MLflow?") from exc
        if not isinstance(value, dict):
            raise ConversionError(f"{self._url} answered something else than MLflow does")
        return value

    def _explain(self, exc: urllib.error.HTTPError, what: str) -> ConversionError | NotFoundError:
        with exc:
            text = exc.read(65536).decode("utf-8", "replace")
        try:
            said = str(json.loads(text).get("message"))[:300]
        except (ValueError, AttributeError, RecursionError):
            said = str(exc.reason)[:300]
        if exc.code in (401, 403):
            raise DeniedError(
                f"the tracking server {self._url} refused ({exc.code}): set "
                "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
            ) from exc
        if exc.code == 404 or "not found" in said.lower():
            return NotFoundError(f"{what}: {said} (tracking server {self._url})")
        return ConversionError(f"{what}: the tracking server {self._url} said {exc.code}: {said}")


def _mapping(values: dict[str, Any], key: str) -> dict[str, Any]:
    value = values.get(key)
    if not isinstance(value, dict):
        raise ConversionError(f"the tracking server answered without {key}: is it MLflow?")
    return value
