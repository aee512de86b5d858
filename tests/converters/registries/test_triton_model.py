"""One folder of a repository: backend, versions, labels, and what is refused by name."""

import pytest

from converters.errors import ConversionError, UnsupportedModelError
from converters.registries.triton_model import dtype_of, labels_of, list_models, read_model
from edged.errors import EdgedError

IO = (
    'input { name: "x" data_type: TYPE_FP32 dims: 4 } '
    'output { name: "y" data_type: TYPE_FP32 dims: 3 } '
)


@pytest.mark.parametrize(
    ("config", "files", "backend"),
    [
        ('platform: "onnxruntime_onnx"', {}, "onnxruntime"),
        ('backend: "onnxruntime"', {}, "onnxruntime"),
        ('platform: "pytorch_libtorch"', {}, "pytorch"),
        ('platform: "tensorflow_savedmodel"', {}, "tensorflow"),
        ("", {"1/model.onnx": b""}, "onnxruntime"),
        ("", {"1/model.pt": b""}, "pytorch"),
        ("", {"1/model.savedmodel/saved_model.pb": b""}, "tensorflow"),
        ('default_model_filename: "net.onnx"', {"1/net.onnx": b""}, "onnxruntime"),
        ('platform: "ensemble"', {}, "ensemble"),
    ],
)
def test_who_runs_it(repository, config, files, backend):
    repository("m", config, files=files)
    model = read_model(repository.root, "m")
    assert (model.backend, model.name, model.versions) == (backend, "m", (1,))


def test_a_name_that_ends_in_its_backend(repository):
    repository("net.onnxruntime")
    assert read_model(repository.root, "net.onnxruntime").backend == "onnxruntime"


@pytest.mark.parametrize(
    ("policy", "versions"),
    [
        ("", (12,)),
        ("version_policy { latest { num_versions: 2 } }", (3, 12)),
        ("version_policy: { all { } }", (1, 3, 12)),
        ("version_policy { specific { versions: [ 3, 1 ] } }", (1, 3)),
        ("version_policy { specific { versions: [ 1, 9 ] } }", (1,)),
    ],
)
def test_which_versions_serve(repository, policy, versions):
    # 007 begins with 0 and "next" is no number: Triton passes over both.
    names = (1, 3, 12, "007", "next")
    repository("m", f'backend: "onnxruntime" {policy}', versions=names)
    model = read_model(repository.root, "m")
    assert model.versions == versions
    assert len(model.differences) == ("9" in policy)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ('platform: "tensorrt_plan"', "belongs to one GPU"),
        ('backend: "python"', "Python code"),
        ('platform: "tensorflow_graphdef"', "tf2onnx"),
        ('backend: "pytorch" platform: "torch_aoti"', "compiled for one machine"),
        ('backend: "openvino"', "OpenVINO"),
        ('backend: "vllm"', 'backend "vllm" has no route'),
        ('backend: "onnxruntime" sequence_batching { }', "sequence_batching"),
        ('backend: "onnxruntime" model_transaction_policy { decoupled: true }', "decoupled"),
        ('backend: "onnxruntime" model_operations { op_library_filename: "x.so" }', "no code"),
        ('backend: "onnxruntime" batch_input { kind: BATCH_ELEMENT_COUNT }', "ragged"),
        (
            'backend: "onnxruntime" input { name: "x" data_type: TYPE_FP32 dims: 1 optional: true }',
            '"x": optional',
        ),
        (
            'backend: "onnxruntime" input { name: "x" data_type: TYPE_STRING dims: 1 }',
            '"x": TYPE_STRING',
        ),
        ('backend: "onnxruntime" input { name: "x" data_type: TYPE_FP32 dims: 0 }', "dims"),
        (
            'backend: "onnxruntime" input { name: "x" dims: 1 allow_ragged_batch: true }',
            "allow_ragged_batch",
        ),
        ('backend: "onnxruntime" input { name: "x" dims: 1 is_shape_tensor: true }', "TensorRT"),
    ],
)
def test_what_would_give_other_answers_is_refused_by_name(repository, config, words):
    repository("m", config)
    with pytest.raises(UnsupportedModelError, match=words):
        read_model(repository.root, "m")


@pytest.mark.parametrize(
    ("config", "versions", "words"),
    [
        ("max_batch_size: x", (1,), r"m/config\.pbtxt: line 1, column 17"),
        ("", (1,), "neither backend nor platform"),
        ('backend: "onnxruntime"', ("a", "0"), "no version"),
        (
            'backend: "onnxruntime" version_policy { specific { versions: 5 } }',
            (1,),
            "names no version",
        ),
    ],
)
def test_a_wrong_folder_is_told_in_a_sentence(repository, config, versions, words):
    repository("m", config, versions=versions)
    with pytest.raises(ConversionError, match=words):
        read_model(repository.root, "m")


def test_what_is_merely_odd_is_a_difference(repository):
    repository("m", 'name: "other" backend: "onnxruntime" novelty: 1')
    differences = " ".join(read_model(repository.root, "m").differences)
    assert 'the configuration says "other"' in differences
    assert '"novelty" is not known' in differences


def test_labels_and_dtypes(repository):
    config = (
        'backend: "onnxruntime" output { name: "y" data_type: TYPE_FP16 dims: 2 '
        'label_filename: "labels.txt" }'
    )
    repository("m", config, files={"labels.txt": "kat\n\nhünd\n".encode()})
    model = read_model(repository.root, "m")
    assert labels_of(model) == {"y": ("kat", "hünd")}
    assert dtype_of(model.config.output[0]) == "float16"


@pytest.mark.parametrize(
    ("field", "value"),
    [("label_filename", "../../secret"), ("label_filename", "/etc/passwd")],
)
def test_labels_do_not_lie_outside(repository, field, value):
    repository("m", f'backend: "onnxruntime" output {{ name: "y" dims: 1 {field}: "{value}" }}')
    with pytest.raises(ConversionError, match=r"leaves|not a path inside"):
        labels_of(read_model(repository.root, "m"))


@pytest.mark.parametrize("name", ["../../secret.onnx", "/etc/passwd", "none.onnx"])
def test_a_model_file_does_not_lie_outside(repository, name):
    repository("m", f'backend: "onnxruntime" default_model_filename: "{name}"')
    with pytest.raises(ConversionError):
        read_model(repository.root, "m").file(1)


def test_a_linked_model_folder_is_refused(repository, tmp_path):
    repository("m", IO + 'backend: "onnxruntime"')
    (repository.root / "l").symlink_to(tmp_path)
    with pytest.raises(ConversionError, match="symbolic link"):
        read_model(repository.root, "l")


def test_weights_in_a_folder_called_model_onnx(repository):
    folder = repository("m", 'backend: "onnxruntime"')
    (folder / "1" / "model.onnx").mkdir()
    (folder / "1" / "model.onnx" / "model.onnx").touch()
    assert read_model(repository.root, "m").file(1).parts[-3:] == ("1", "model.onnx", "model.onnx")


def test_listing(repository, tmp_path):
    repository("b", None)
    repository("a", None, versions=())
    (repository.root / "README").touch()
    (repository.root / "empty").mkdir()
    (repository.root / ".hidden").mkdir()
    assert list_models(repository.root) == ["b"]
    (repository.root / "a" / "config.pbtxt").touch()
    assert list_models(repository.root) == ["a", "b"]
    with pytest.raises(EdgedError, match="not a Triton model repository"):
        list_models(tmp_path / "none")
