"""``texts``: a folder of ONNX Runtime GenAI goes in, a bundle with a proven sample comes out.

The sample is what greedy decoding says after a prompt. Where two tokens are nearly as likely,
another processor may take the other one and would be refused a good model; so the sample ends
before the first place where draws at a low temperature go another way.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converters.errors import ConversionError
from converters.pack import member, pack
from converters.paths import check_output
from converters.steps import Progress, Steps
from converters.texts.folder import Folder, read_folder
from converters.texts.words import PROMPTS, TOKENS
from edged import generating
from edged.errors import EdgedError
from edged.manifest import (
    ArtefactEntry,
    Golden,
    Manifest,
    TensorEntry,
    canonical_json,
    parse_manifest,
)
from edged.runtimes.base import Artefact
from edged.runtimes.genai_config import CONFIG
from edged.runtimes.onnxruntime_genai import GenaiRuntime
from edged.specs import OutputProcessing, TextInput
from edged.store.golden import write_safetensors
from edged.store.signing import Signer
from edged.tensors import Array, TensorSpec
from edged.version import __version__
from edged.workers.isolation import WorkerCaps, WorkerRuntime, WorkerSession

GOLDEN = "golden.safetensors"
_DRAWS = 8
_TEMPERATURE = 0.03
"""A token that is less likely by a hundredth of a logit is drawn four times in ten, one by a third
of a logit never: kernels of other processors differ by less than the former."""
_TIMEOUT_S = 600.0


@dataclass(frozen=True)
class Wish:
    """How the user wants it.

    Args:
        name: the model's.
        release: its.
        version: for people; empty for the release.
        prompt: of the sample; empty for the best of a few.
        tokens: of the sample, at most.
    """

    name: str
    release: int = 1
    version: str = ""
    prompt: str = ""
    tokens: int = TOKENS


@dataclass(frozen=True)
class Outcome:
    """What was written.

    Args:
        manifest: what it promises.
        digest: sha256 of it.
        tokens: of the sample.
        token_bytes: what a text keeps for each token.
        left_out: what else lay in the folder.
        is_signed: whether a key signed it.
    """

    manifest: Manifest
    digest: str
    tokens: int
    token_bytes: int
    left_out: tuple[str, ...]
    is_signed: bool


def pack_folder(
    folder: Path,
    output: Path,
    wish: Wish,
    key: Path | None = None,
    progress: Progress = lambda _step: None,
) -> Outcome:
    """Make a bundle.

    Args:
        folder: as the model builder of onnxruntime-genai writes it.
        output: the bundle to write; replaced only when everything succeeded.
        wish: how.
        key: a private key to sign with.
        progress: called with each step's name.

    Raises:
        ConversionError: a file or a field that a bundle cannot take, or that the package refuses.
        ManifestError: the name, release or version is none.
    """
    check_output(output, {"folder": str(folder), **({} if key is None else {"key": str(key)})})
    signer = None if key is None else Signer.from_file(key)
    if wish.tokens < 1:
        raise ConversionError(f"--tokens {wish.tokens}: expected 1 or more")
    if problem := (info := GenaiRuntime(threads=1).info()).problem:
        raise ConversionError(problem)
    steps = Steps(progress)
    with steps.step("reading the folder"):
        read = read_folder(folder)
        _compose(wish, read, b"x", info.version)  # a wrong name is told before anything slow
    with steps.step("making the sample"):
        inputs, outputs = _sample(wish, read)
        golden = _as_file(inputs, outputs)
    with steps.step("packing"):
        manifest = _compose(wish, read, golden, info.version)
        members = {**read.files, GOLDEN: golden}
        data = pack(output, manifest, members, [] if signer is None else [signer])
    return Outcome(
        manifest,
        hashlib.sha256(data).hexdigest(),
        int(outputs[generating.TOKENS].size),
        read.config.token_bytes,
        read.left_out,
        signer is not None,
    )


def _sample(wish: Wish, read: Folder) -> tuple[dict[str, Array], dict[str, Array]]:
    """A request and its answer, both proven in a process of their own."""
    files = dict(read.files)
    artefact = Artefact(wish.name, files.pop(CONFIG), generating.INPUTS, generating.OUTPUTS, files)
    caps = WorkerCaps(load_timeout_s=_TIMEOUT_S, run_timeout_s=_TIMEOUT_S)
    try:
        session = WorkerRuntime(GenaiRuntime.name, caps).load(artefact)
        try:
            inputs = generating.request(**_surest(session, wish))
            outputs = session.run(inputs)
            if not outputs[generating.FINISH].size:
                raise ConversionError("the package gave no reason for the end of the sample")
        finally:
            session.close()
    except EdgedError as exc:
        if isinstance(exc, ConversionError):
            raise
        raise ConversionError(exc.message) from exc
    return inputs, outputs


def _surest(session: WorkerSession, wish: Wish) -> dict[str, Any]:
    """The prompt after which most tokens are sure, and how many those are."""
    prompts = (wish.prompt,) if wish.prompt else PROMPTS
    counts = {prompt: _sure_tokens(session, prompt, wish.tokens) for prompt in prompts}
    best = max(prompts, key=lambda prompt: counts[prompt])
    if not counts[best]:
        raise ConversionError(
            f'after "{best[:64]}" no token is clearly the likeliest, so there is nothing to prove '
            "the model by on a device; give another --prompt"
        )
    return {"prompt": best, "max_new_tokens": counts[best]}


def _sure_tokens(session: WorkerSession, prompt: str, most: int) -> int:
    """How many tokens any processor makes alike."""
    greedy = _tokens(session, prompt, most)
    count = len(greedy)
    for seed in range(_DRAWS):
        drawn = _tokens(session, prompt, most, temperature=_TEMPERATURE, seed=seed)
        pairs = zip(greedy[:count], drawn, strict=False)
        count = next((n for n, (a, b) in enumerate(pairs) if a != b), min(count, len(drawn)))
    return count


def _tokens(session: WorkerSession, prompt: str, most: int, **options: float) -> list[int]:
    request = generating.request(prompt, max_new_tokens=most, **options)
    found: list[int] = session.run(request)[generating.TOKENS].tolist()
    return found


def _as_file(inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> bytes:
    return write_safetensors(
        {f"in.{name}": array for name, array in inputs.items()}
        | {f"out.{name}": array for name, array in outputs.items()}
    )


def _entries(specs: tuple[TensorSpec, ...]) -> tuple[TensorEntry, ...]:
    return tuple(TensorEntry(spec.name, spec.dtype, spec.shape) for spec in specs)


def _compose(wish: Wish, read: Folder, golden: bytes, package: str) -> Manifest:
    others = tuple(name for name in read.files if name != CONFIG)
    members = [member(name, read.kinds[name], data) for name, data in read.files.items()]
    content = hashlib.sha256()
    for entry in members:
        content.update(f"{entry.name} {entry.sha256}\n".encode())
    manifest = Manifest(
        format="edged-bundle-v1",
        name=wish.name,
        release=wish.release,
        version=wish.version or str(wish.release),
        inputs=_entries(generating.INPUTS),
        outputs=_entries(generating.OUTPUTS),
        artefacts=(ArtefactEntry("genai", CONFIG, read.precision, files=others),),
        members=(*members, member(GOLDEN, "safetensors", golden)),
        golden=Golden(GOLDEN, 1, {}),
        input_processing={generating.REQUEST: TextInput()},
        output_processing={
            name: OutputProcessing(text=True) for name in (generating.TEXT, generating.FINISH)
        },
        provenance={
            "converter": f"edged-convert {__version__}",
            "framework": "onnxruntime-genai",
            "packages": {"onnxruntime-genai": package},
            "source": content.hexdigest(),
        },
    )
    return parse_manifest(canonical_json(manifest))
