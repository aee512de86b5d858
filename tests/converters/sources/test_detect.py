import zipfile

import pytest

from converters.errors import ConversionError, UnsupportedModelError
from converters.recipe import Recipe
from converters.sources.detect import detect


def recipe(source, **fields):
    return Recipe(source=str(source), samples="s.npz", name="m", release=1, **fields)


@pytest.mark.parametrize(
    ("name", "framework", "asks_for_trust"),
    [
        ("m.joblib", "sklearn", True),
        ("m.pkl", "sklearn", True),
        ("m.pt2", "torch", True),
        ("m.keras", "keras", False),
        ("m.ONNX", "onnx", False),
    ],
)
def test_by_name(tmp_path, name, framework, asks_for_trust):
    (tmp_path / name).write_bytes(b"never parsed")
    found = detect(recipe(tmp_path / name))
    assert (found.framework, bool(found.runs_code)) == (framework, asks_for_trust)


def test_by_content_and_by_word(tmp_path):
    (tmp_path / "model").write_bytes(b"\x80\x04\x95rest")
    assert detect(recipe(tmp_path / "model")).framework == "sklearn"
    with zipfile.ZipFile(tmp_path / "zipped", "w") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", "")
    with pytest.raises(UnsupportedModelError, match="rename it"):
        detect(recipe(tmp_path / "zipped"))  # Keras goes by the ending
    with zipfile.ZipFile(tmp_path / "archive", "w") as archive:
        archive.writestr("net/archive_format", "pt2")
    assert detect(recipe(tmp_path / "archive")).framework == "torch"
    (tmp_path / "raw").write_bytes(b"?")
    assert detect(recipe(tmp_path / "raw", kind="onnx")).framework == "onnx"


def test_a_factory_asks_for_trust():
    assert detect(recipe("net:build")).runs_code


def test_refusals_say_what_to_do(tmp_path):
    with pytest.raises(ConversionError, match="module:factory"):
        detect(recipe(tmp_path / "none.onnx"))
    with pytest.raises(UnsupportedModelError, match="folder"):
        detect(recipe(tmp_path))
    (tmp_path / "m.safetensors").write_bytes(b"")
    with pytest.raises(UnsupportedModelError, match="--weights"):
        detect(recipe(tmp_path / "m.safetensors"))


def test_hdf5_is_not_opened_whatever_is_said(tmp_path):
    """Keras before 3.11.3 ran the code in such a file, safe mode or not."""
    (tmp_path / "m.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(UnsupportedModelError, match="save it as"):
        detect(recipe(tmp_path / "m.h5", kind="keras"))
