"""Manifests made in code, for what is decided from a manifest alone."""

from edged.manifest import ArtefactEntry, Manifest, Member, TensorEntry


def make_manifest(
    inputs: list[tuple[str, str, tuple]],
    outputs: list[tuple[str, str, tuple]] = (("y", "float32", ("batch", 3)),),
    *,
    input_processing: dict | None = None,
    output_processing: dict | None = None,
    name: str = "gate",
    release: int = 1,
) -> Manifest:
    return Manifest(
        format="edged-bundle-v1",
        name=name,
        release=release,
        version="1.0",
        inputs=tuple(TensorEntry(*entry) for entry in inputs),
        outputs=tuple(TensorEntry(*entry) for entry in outputs),
        artefacts=(ArtefactEntry(runtime="onnx", file="m.onnx"),),
        members=(Member(name="m.onnx", type="onnx", size=1, sha256="0" * 64),),
        input_processing=input_processing or {},
        output_processing=output_processing or {},
    )
