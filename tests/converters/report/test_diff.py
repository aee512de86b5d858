import msgspec

from converters.report.diff import diff_evidence
from tests.converters.report.test_page import ARTEFACT, EVIDENCE


def texts(first, second):
    return "\n".join(table.plain() for table in diff_evidence(first, second))


def test_a_bundle_differs_not_from_itself():
    assert texts(EVIDENCE, EVIDENCE).count("no difference") == 7


def test_signature_operators_numbers_and_size():
    other = msgspec.structs.replace(
        EVIDENCE,
        bundle={**EVIDENCE.bundle, "size_bytes": 1},
        signature={"inputs": ("x float32[batch,4]",), "outputs": ("p float32[batch,2]",)},
        manifest={
            "parity": {"grade": "checked", "outputs": {"p": {"max_abs": 1e-3}}},
            "provenance": {"converter": "edged-convert", "framework": {"torch": "2.14"}},
        },
        artefacts=(msgspec.structs.replace(ARTEFACT, nodes={"Conv": 19, "Relu": 1}, size_bytes=5),),
    )
    text = " ".join(texts(EVIDENCE, other).split())
    for words in (
        "size_bytes 46800000 1", "input x float32[batch,3] float32[batch,4]",
        "grade verified checked", "p max_abs - 0.001", "operator Conv 20 19", "operator Relu - 1",
        "size 46700000 bytes 5 bytes", "framework.torch 2.13 2.14", "file model-int8.onnx",
        "precision int8 -",
    ):  # fmt: skip
        assert words in text, words
