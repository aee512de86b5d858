"""MLflow's store in files (``mlruns``), its default until 2, read without MLflow."""

# ruff: noqa: D102  (Store documents the methods)

from __future__ import annotations

from pathlib import Path

from converters.errors import ConversionError
from converters.registries.files import inside, names_in, read_text, read_yaml
from converters.registries.mlflow_store import LocalStore, ModelVersion, missing
from converters.registries.mlflow_uri import ModelUri
from edged.errors import NotFoundError


class FileStore(LocalStore):
    """``mlruns``: MLflow's default until 2, kept by many."""

    def __init__(self, path: Path) -> None:
        super().__init__(path.absolute())

    def version(self, uri: ModelUri) -> ModelVersion:
        folder = self._model(uri)
        number = uri.version
        if uri.alias:
            number = self._alias(uri, folder)
        elif number is None:
            numbers = self._versions(folder)
            if not numbers:
                raise NotFoundError(missing(uri, self._known(uri.name)))
            number = max(numbers)
        if number not in self._versions(folder):
            raise NotFoundError(missing(uri, self._known(uri.name)))
        where = inside(folder, f"version-{number}", "MLflow store")
        meta = read_yaml(inside(where, "meta.yaml", "MLflow store"))
        tags = {name: read_text(inside(where, f"tags/{name}", "MLflow store"))
                for name in names_in(where / "tags")}  # fmt: skip
        location = meta.get("storage_location") or meta.get("source")
        return ModelVersion(
            uri.name, number, str(location), str(meta.get("run_id") or ""),
            str(meta.get("model_id") or ""), tags,
        )  # fmt: skip

    def logged_model(self, model_id: str) -> str:
        for experiment in names_in(self._root):
            if model_id in names_in(self._root / experiment / "models"):
                meta = inside(self._root, f"{experiment}/models/{model_id}/meta.yaml", "MLflow")
                return str(read_yaml(meta).get("artifact_location"))
        raise NotFoundError(f'the store "{self._root}" has no logged model "{model_id}"')

    def run_model(self, run_id: str, path: str) -> str:
        for experiment in names_in(self._root):
            for model in names_in(self._root / experiment / "models"):
                file = self._root / experiment / "models" / model / "meta.yaml"
                meta = read_yaml(file) if file.is_file() else {}
                if (meta.get("source_run_id"), meta.get("name")) == (run_id, path):
                    return str(meta.get("artifact_location"))
            if run_id in names_in(self._root / experiment):
                meta = read_yaml(inside(self._root, f"{experiment}/{run_id}/meta.yaml", "MLflow"))
                return f"{meta.get('artifact_uri')}/{path}"
        raise NotFoundError(f'the store "{self._root}" has no run "{run_id}"')

    def set_tags(self, version: ModelVersion, tags: dict[str, str]) -> None:
        folder = self._root / "models" / version.name / f"version-{version.version}"
        for key, value in tags.items():
            self.put(str(folder), f"tags/{key}", value.encode("utf-8"))

    def set_alias(self, version: ModelVersion, alias: str) -> None:
        folder = self._root / "models" / version.name
        self.put(str(folder), f"aliases/{alias}", str(version.version).encode("ascii"))

    def _model(self, uri: ModelUri) -> Path:
        models = self._root / "models"
        if uri.name not in names_in(models):
            raise NotFoundError(missing(uri, names_in(models)[:10]))
        return inside(models, uri.name, "MLflow store")

    def _alias(self, uri: ModelUri, folder: Path) -> int:
        if uri.alias not in names_in(folder / "aliases"):
            raise NotFoundError(missing(uri, self._known(uri.name)))
        text = read_text(inside(folder, f"aliases/{uri.alias}", "MLflow store")).strip()
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            raise ConversionError(
                f'alias "{uri.alias}" of "{uri.name}" is "{text[:20]}", no number'
            )
        return int(text)

    @staticmethod
    def _versions(folder: Path) -> list[int]:
        names = [name.removeprefix("version-") for name in names_in(folder)]
        return [int(name) for name in names if name.isascii() and name.isdigit()]

    def _known(self, name: str) -> list[str]:
        folder = self._root / "models" / name
        aliases = [f"{name}@{alias}" for alias in names_in(folder / "aliases")]
        return aliases + [f"{name}/{number}" for number in sorted(self._versions(folder))[-5:]]
