"""What a bundle offers to the runtimes that are here."""

from __future__ import annotations

from edged.runtimes.base import RuntimeInfo
from edged.serving.choosing.choice import Pair
from edged.serving.choosing.offer import by_preference, offer, setting_of, trial_id, with_absent
from tests.fakes.precisions import two_precisions

HERE = [RuntimeInfo("openvino", "2.0", ("cpu",)), RuntimeInfo("onnxruntime", "1.0", ("cpu",))]
NO_CUDA = RuntimeInfo("onnxruntime-cuda", "", (), "it was built without CUDA; pip install another")


def test_by_precision_as_the_bundle_lists_them_and_of_each_by_runtime() -> None:
    found = offer(two_precisions(), HERE, "auto")
    pairs = [(pair.precision, pair.runtime) for pair in found.entries]
    assert pairs == [(p, r) for p in ("float32", "int8") for r in ("openvino", "onnxruntime")]
    assert found.entries[Pair("onnxruntime", "int8")].file == "model-int8.onnx"
    assert by_preference(found)[:2] == (Pair("openvino", "float32"), Pair("openvino", "int8"))


def test_one_precision_alone() -> None:
    assert {pair.precision for pair in offer(two_precisions(), HERE, "int8").entries} == {"int8"}


def test_what_takes_no_part_is_told_without_what_to_install() -> None:
    found = offer(two_precisions(), [*HERE, NO_CUDA], "float16")
    assert not found.entries
    assert found.absent["onnxruntime-cuda"]
    one = offer(two_precisions(), [HERE[0], NO_CUDA], "auto")
    assert one.absent == {"onnxruntime-cuda": "it was built without CUDA"}
    words = "left out: onnxruntime-cuda (it was built without CUDA)"
    assert with_absent("faster", one) == f"faster; {words}"
    assert with_absent("", one) == words
    assert with_absent("faster", offer(two_precisions(), HERE, "auto")) == "faster"


def test_all_that_an_outcome_depends_on_is_in_its_name() -> None:
    one = offer(two_precisions(), [HERE[1], NO_CUDA], "auto")
    ids = "onnxruntime 1.0, onnxruntime-cuda missing"
    assert setting_of(one, "auto", 2, "a board") == f"{ids}, 2 threads, a board"
    assert setting_of(one, "int8", 0, "a board") == f"{ids} int8, a thread a core, a board"
    assert trial_id(one, Pair("onnxruntime", "int8")) == "onnxruntime 1.0, int8"
