"""ONNX Runtime GenAI: models that go on with a text, token by token.

The package is imported on first use, here only. A session may make several texts at once, each on
the thread that asks for it; what one of them keeps (its keys and values) is given back when it
ends, however that is.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Generator, Iterator, Mapping
from typing import Any, NoReturn

from edged.errors import EdgedError, InvalidRequestError, LoadError, RunError
from edged.generating import (
    EOS,
    INPUTS,
    LENGTH,
    OUTPUTS,
    REQUEST,
    STOP,
    UNCAPPED,
    Ask,
    Caps,
    Piece,
    read_request,
    tensors,
)
from edged.runtimes.base import Artefact, BoundRun, RuntimeInfo
from edged.runtimes.genai_config import CONFIG, GenaiConfig, read_config
from edged.runtimes.onnxruntime import clean
from edged.runtimes.private_folder import private_folder
from edged.runtimes.stops import Stops
from edged.system.cores import usable
from edged.tensors import Array

_INSTALL = 'pip install "edged[cpu,genai]"'
_COPIES = 4
"""While it loads: as verified bytes, as files, as tensors, and in the layouts of kernels."""
_SESSION_BYTES = 64 << 20

_import_lock = threading.Lock()


def backend_module() -> Any:
    """The package, imported on first use with the telemetry of what lies below it off."""
    with _import_lock:
        os.environ["ORT_DISABLE_TELEMETRY"] = "1"
        import onnxruntime_genai  # noqa: PLC0415 - seconds and megabytes that few processes need

        if hasattr(onnxruntime_genai, "disable_telemetry_events"):
            onnxruntime_genai.disable_telemetry_events()
        return onnxruntime_genai


class GenaiRuntime:
    """Loads folders of ONNX Runtime GenAI on the CPU.

    Args:
        threads: threads of one run; 0 for one a core this process may use.
    """

    name = "onnxruntime-genai"

    def __init__(self, *, threads: int) -> None:
        self._threads = threads or len(usable())

    def info(self) -> RuntimeInfo:
        """Say whether the package is there and imports."""
        try:
            return RuntimeInfo(self.name, str(backend_module().__version__), ("cpu",))
        except ImportError as exc:
            reason = f"is not installed ({clean(exc)})"
        except OSError as exc:
            reason = f"is installed but does not load ({clean(exc)})"
        except Exception as exc:
            reason = f"does not import ({type(exc).__name__}: {clean(exc)})"
        return RuntimeInfo(self.name, "", (), f"onnxruntime-genai {reason}; {_INSTALL}")

    def estimate_bytes(self, artefact: Artefact) -> int:
        """Upper bound of what loading takes, without the texts that are made."""
        size = len(artefact.data) + sum(map(len, artefact.sidecars.values()))
        return _COPIES * size + _SESSION_BYTES

    def load(self, artefact: Artefact) -> GenaiSession:
        """Make a session.

        Raises:
            LoadError: no package, files that it refuses, or another signature than that of text.
        """
        if problem := self.info().problem:
            raise LoadError(problem)
        where = f'model "{artefact.model}"'
        if (artefact.inputs, artefact.outputs) != (INPUTS, OUTPUTS):
            wanted = ", ".join(f'"{spec.name}" {spec}' for spec in (*INPUTS, *OUTPUTS))
            raise LoadError(
                f"{where}: its bundle promises other tensors than text has: {wanted}; pack it with "
                "edged-convert"
            )
        config = read_config(artefact.data, artefact.sidecars)
        backend = backend_module()
        files = {CONFIG: config.written(self._threads), **artefact.sidecars}
        try:
            with private_folder(files, where) as folder:
                model = backend.Model(backend.Config(folder))
                tokenizer = backend.Tokenizer(model)
        except LoadError:
            raise
        except Exception as exc:
            raise LoadError(
                f"{where}: onnxruntime-genai {backend.__version__} refuses it: {clean(exc)}"
            ) from exc
        return GenaiSession(where, backend, model, tokenizer, config)


class GenaiSession:
    """A loaded model. Its methods may be called from several threads at once.

    Args:
        where: the model, for messages.
        backend: the package.
        model: the package's.
        tokenizer: likewise.
        config: of the model.
    """

    inputs, outputs = INPUTS, OUTPUTS

    def __init__(
        self, where: str, backend: Any, model: Any, tokenizer: Any, config: GenaiConfig
    ) -> None:
        self._where, self._config = where, config
        self._backend, self._model, self._tokenizer = backend, model, tokenizer
        ends = config.model.eos_token_id
        self._ends = frozenset(ends if isinstance(ends, tuple) else (ends,))

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Make a whole text.

        Raises:
            InvalidRequestError: the request is none, or its prompt too long.
            RunError: the model failed.
        """
        ask = read_request(inputs[REQUEST].tobytes(), self._where)
        return tensors(self.generate(ask, UNCAPPED))

    def generate(self, ask: Ask, caps: Caps) -> Generator[Piece, None, None]:
        """Make a text, a token at a time; closing what this returns ends it.

        Args:
            ask: what is asked.
            caps: what of it is allowed.

        Raises:
            InvalidRequestError: the prompt has more tokens than may be.
            RunError: the model failed.
        """
        try:
            yield from self._generate(ask, caps)
        except (EdgedError, GeneratorExit):
            raise
        except Exception as exc:
            raise RunError(f"{self._where} failed while running: {clean(exc)}") from exc

    def _generate(self, ask: Ask, caps: Caps) -> Iterator[Piece]:
        model, tokenizer = self._model, self._tokenizer
        if model is None:
            _raise_closed(self._where)
        prompt = tokenizer.encode(ask.prompt)
        most = self._most(len(prompt), ask, caps)
        params = self._backend.GeneratorParams(model)
        params.set_search_options(**_options(ask, len(prompt) + most))
        generator = self._backend.Generator(model, params)
        # The package holds keys and values as long as its object lives: that is this frame.
        generator.append_tokens(prompt)
        stream, stops = tokenizer.create_stream(), Stops(ask.stop)
        for left in range(most - 1, -1, -1):
            generator.generate_next_token()
            token = int(generator.get_next_tokens()[0])
            if token in self._ends:
                yield Piece(stops.rest(), None, EOS)
                return
            text, is_stop = stops.take(stream.decode(token))
            if is_stop:
                yield Piece(text, token, STOP)
                return
            if not left:
                yield Piece(text + stops.rest(), token, LENGTH)
                return
            yield Piece(text, token)

    def _most(self, prompt: int, ask: Ask, caps: Caps) -> int:
        """How many tokens may be made; raises InvalidRequestError where there is no room."""
        context = self._config.model.context_length
        if not prompt:
            raise InvalidRequestError(f"{self._where}: the prompt has no tokens")
        if prompt > caps.max_prompt_tokens or prompt >= context:
            limit = min(caps.max_prompt_tokens, context - 1)
            raise InvalidRequestError(
                f"{self._where}: the prompt has {prompt} tokens; at most {limit} are taken"
            )
        return min(ask.max_new_tokens or caps.max_new_tokens, caps.max_new_tokens, context - prompt)

    def bind(self, _inputs: Mapping[str, Array], _outputs: Mapping[str, Array]) -> BoundRun | None:
        """Nothing is gained by it."""
        return None

    def close(self) -> None:
        """Let go of the model; it goes when the last text in progress ends."""
        self._model = self._tokenizer = None


def _options(ask: Ask, length: int) -> dict[str, Any]:
    options: dict[str, Any] = {
        "max_length": length,
        "repetition_penalty": ask.repetition_penalty,
        "do_sample": ask.temperature > 0,
    }
    if ask.temperature > 0:
        options |= {"temperature": ask.temperature, "top_k": ask.top_k, "top_p": ask.top_p}
        # The package's -1 is another one each time.
        options["random_seed"] = -1 if ask.seed is None else ask.seed
    return options


def _raise_closed(where: str) -> NoReturn:
    raise RunError(f"{where} failed while running: the session is closed")
