"""Texts by ONNX Runtime GenAI: the real package on a small decoder with random weights."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import subprocess
import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from converters.texts.example import Size, make_folder
from edged.device.memory import hand_back
from edged.errors import (
    GoldenMismatchError,
    InvalidRequestError,
    LoadError,
    ManifestError,
    RunError,
)  # fmt: skip
from edged.generating import UNCAPPED, Ask, Caps
from edged.loading import prove
from edged.manifest import Manifest
from edged.runtimes.genai_config import CONFIG
from edged.runtimes.onnxruntime_genai import GenaiRuntime, GenaiSession
from edged.store.bundle import read_manifest
from edged.tensors import TensorSpec
from tests.fakes import texts
from tests.fakes.texts import PROMPT, ask, greedy, whole

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def session() -> GenaiSession:
    return texts.session()


def config(**model: Any) -> bytes:
    document = json.loads(texts.files()[CONFIG])
    document["model"].update(model)
    return json.dumps(document).encode()


class TestTexts:
    def test_as_the_packages_own_loop_makes_them(self, session: GenaiSession, tmp_path: Path):
        del session
        import onnxruntime_genai as genai

        for name, data in texts.files().items():
            (tmp_path / name).write_bytes(data)
        model = genai.Model(str(tmp_path))
        tokenizer = genai.Tokenizer(model)
        prompt = tokenizer.encode(PROMPT)
        params = genai.GeneratorParams(model)
        params.set_search_options(max_length=len(prompt) + 24)
        generator = genai.Generator(model, params)
        generator.append_tokens(prompt)
        tokens, stream, text = [], tokenizer.create_stream(), ""
        while not generator.is_done():
            generator.generate_next_token()
            tokens.append(int(generator.get_next_tokens()[0]))
            text += stream.decode(tokens[-1])
        assert greedy() == (text, tokens, "length")
        assert len(set(tokens)) > 8  # it does not say one thing for ever

    def test_piece_by_piece_is_the_same(self, session: GenaiSession):
        pieces = list(session.generate(Ask(PROMPT, 24), UNCAPPED))
        assert len(pieces) == 24
        assert "".join(piece.text for piece in pieces) == greedy().text
        assert [piece.finish for piece in pieces] == [""] * 23 + ["length"]

    def test_whatever_was_made_before(self, session: GenaiSession):
        """What is kept for one text is not left for the next."""
        list(session.generate(Ask("another beginning", 40), UNCAPPED))
        with contextlib.closing(session.generate(Ask(PROMPT, 24), UNCAPPED)) as pieces:
            next(pieces)
        assert whole(session.run(ask(max_new_tokens=24))) == greedy()

    def test_several_at_once(self, session: GenaiSession):
        prompts = [PROMPT, "another beginning", "the end", "a"]
        alone = [whole(session.run(ask(prompt, max_new_tokens=60))) for prompt in prompts]
        found: dict[str, Any] = {}
        threads = [
            threading.Thread(
                target=lambda p=prompt: found.update(
                    {p: whole(session.run(ask(p, max_new_tokens=60)))}
                )
            )
            for prompt in prompts
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert [found[prompt] for prompt in prompts] == alone

    def test_in_turns(self, session: GenaiSession):
        """Two half-made texts do not see each other."""
        one = session.generate(Ask(PROMPT, 24), UNCAPPED)
        other = session.generate(Ask("another beginning", 24), UNCAPPED)
        tokens = [(a.token, b.token) for a, b in zip(one, other, strict=True)]
        assert [a for a, _ in tokens] == greedy().tokens
        assert [b for _, b in tokens] == greedy("another beginning").tokens


class TestOptions:
    def test_a_seed_gives_the_same_again(self, session: GenaiSession):
        drawn = [
            whole(session.run(ask(max_new_tokens=30, temperature=1.5, seed=seed))).tokens
            for seed in (1, 1, 2)
        ]
        assert drawn[0] == drawn[1] != drawn[2]

    def test_without_one_it_is_another_each_time(self, session: GenaiSession):
        drawn = {
            tuple(whole(session.run(ask(max_new_tokens=30, temperature=1.5))).tokens)
            for _ in range(4)
        }
        assert len(drawn) > 1

    @pytest.mark.parametrize("option", [{"top_k": 1}, {"top_p": 1e-6}])
    def test_drawing_among_one_is_greedy(self, session: GenaiSession, option: dict[str, Any]):
        made = whole(session.run(ask(max_new_tokens=24, temperature=1.0, seed=1, **option)))
        assert made == greedy()

    def test_a_penalty_changes_what_is_said(self, session: GenaiSession):
        made = whole(session.run(ask(max_new_tokens=24, repetition_penalty=5.0)))
        assert len(set(made.tokens)) > len(set(greedy().tokens))

    def test_a_stop_text_ends_it_and_is_not_shown(self, session: GenaiSession):
        text = greedy().text
        made = whole(session.run(ask(max_new_tokens=24, stop=[text[2:5]])))
        assert made.text == text[: text.index(text[2:5])]
        assert made.finish == "stop"
        assert made.tokens == greedy().tokens[: len(made.tokens)]

    def test_the_model_ends_it(self):
        end = greedy().tokens[5]
        assert end not in greedy().tokens[:5]
        session = texts.session(genai_config_json=config(eos_token_id=[1, end]))
        made = whole(session.run(ask(max_new_tokens=24)))
        assert made.finish == "eos"
        assert made.tokens == greedy().tokens[:5]

    def test_the_context_ends_it(self):
        session = texts.session(genai_config_json=config(context_length=40))
        made = whole(session.run(ask()))
        assert made.finish == "length"
        assert made.tokens == greedy().tokens + made.tokens[24:]
        assert len(made.tokens) < 40

    @pytest.mark.parametrize(("asked", "most"), [(None, 7), (5, 5), (99, 7)])
    def test_caps(self, session: GenaiSession, asked: int | None, most: int):
        pieces = list(session.generate(Ask(PROMPT, asked), Caps(7, 100)))
        assert len(pieces) == most

    def test_a_prompt_too_long(self, session: GenaiSession):
        with pytest.raises(
            InvalidRequestError, match=r'model "story": the prompt has \d+ tokens; at most 3 are'
        ):
            next(session.generate(Ask(PROMPT), Caps(7, 3)))
        with pytest.raises(InvalidRequestError, match="at most 511 are taken"):
            session.run(ask("x" * 5000))


def held() -> int:
    gc.collect()
    hand_back()  # as the worker does after each text
    return psutil.Process().memory_info().rss


def test_what_is_kept_is_given_back():
    """A text that was left half made holds nothing; one that goes on holds its keys and values."""
    texts.needs_package()
    # In a process of its own: what other tests left between allocations would count, too.
    words = f"from {__name__} import keep_and_give_back; keep_and_give_back()"
    ran = subprocess.run(
        [sys.executable, "-c", words],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": os.pathsep.join([os.fspath(ROOT), *sys.path])},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr


def keep_and_give_back() -> None:
    sized = Size(layers=4, heads=4, kv_heads=4, head=64, inner=64, context=8192)
    with tempfile.TemporaryDirectory() as folder:
        make_folder(Path(folder), sized)
        files = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
    made = replace(texts.artefact(), data=files.pop(CONFIG), sidecars=files)
    session = GenaiRuntime(threads=1).load(made)
    each = 8192 * 2 * 4 * 4 * 64 * 4  # 64 MiB
    next(session.generate(Ask(PROMPT), UNCAPPED))
    before = held()
    going = [session.generate(Ask(PROMPT), UNCAPPED) for _ in range(3)]
    for pieces in going:
        next(pieces)
    assert held() > before + 2 * each
    for pieces in going:
        pieces.close()
    assert held() < before + each
    for _ in range(30):
        with contextlib.closing(session.generate(Ask(PROMPT), UNCAPPED)) as pieces:
            next(pieces)
    assert held() < before + each
    # A long prompt also takes much between the layers.
    with contextlib.closing(session.generate(Ask("a" * 4000), UNCAPPED)) as pieces:
        next(pieces)
    assert held() < before + each // 4


class TestGolden:
    """The tokens of greedy decoding are what a bundle promises."""

    @pytest.fixture
    def manifest(self, tmp_path: Path) -> Manifest:
        texts.make_text_bundle(tmp_path / "s.edgb")
        return read_manifest(tmp_path / "s.edgb")[1]

    def test_kept(self, session: GenaiSession, manifest: Manifest):
        inputs = ask(max_new_tokens=8)
        assert prove(session, manifest, (inputs, session.run(inputs))) == inputs

    @pytest.mark.parametrize("name", ["text", "tokens", "finish"])
    def test_broken(self, session: GenaiSession, manifest: Manifest, name: str):
        inputs = ask(max_new_tokens=8)
        expected = session.run(inputs)
        expected[name] = expected[name].copy()
        expected[name][1] += 1
        with pytest.raises(GoldenMismatchError, match=name):
            prove(session, manifest, (inputs, expected))


class TestLoading:
    def test_no_file_is_left(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        session = texts.session()
        assert not list(tmp_path.iterdir())
        assert whole(session.run(ask(max_new_tokens=24))) == greedy()

    def test_closed(self):
        session = texts.session()
        session.close()
        session.close()
        with pytest.raises(RunError, match=r'model "story" failed while running: the session is'):
            session.run(ask())

    def test_a_text_that_is_being_made_ends_as_it_would(self):
        session = texts.session()
        pieces = session.generate(Ask(PROMPT, 24), UNCAPPED)
        first = next(pieces)
        session.close()
        assert [first.token, *(piece.token for piece in pieces)] == greedy().tokens

    def test_another_signature(self):
        texts.needs_package()
        wrong = replace(texts.artefact(), inputs=(TensorSpec("x", "float32", ("batch",)),))
        with pytest.raises(LoadError, match="promises other tensors than text has"):
            GenaiRuntime(threads=1).load(wrong)

    @pytest.mark.parametrize(
        ("name", "data"),
        [("model_onnx", b"\x08\x0a"), ("tokenizer_json", b"{"), ("model_onnx_data", b"x" * 64)],
    )
    def test_files_that_are_none(self, name: str, data: bytes):
        with pytest.raises(LoadError, match=r'model "story": onnxruntime-genai .* refuses it'):
            texts.session(**{name: data})

    def test_a_configuration_that_wants_more(self):
        document = json.loads(texts.files()[CONFIG])
        document["model"]["decoder"]["session_options"]["custom_ops_library"] = "evil.so"
        with pytest.raises(ManifestError, match="custom_ops_library"):
            texts.session(genai_config_json=json.dumps(document).encode())

    def test_an_upper_bound_of_memory(self):
        size = sum(map(len, texts.files().values()))
        assert GenaiRuntime(threads=1).estimate_bytes(texts.artefact()) > 4 * size

    def test_info(self):
        texts.needs_package()
        info = GenaiRuntime(threads=0).info()
        assert (info.name, info.devices) == ("onnxruntime-genai", ("cpu",))
        assert info.version
