"""Texts through the daemon, token by token, against the loop of ONNX Runtime GenAI itself."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import figures
from benchmarks.results import Row, measured, not_measured
from benchmarks.stand import BenchError, Stand, load_average
from converters.texts.example import Size, make_folder
from converters.texts.pack import Wish, pack_folder
from edged import generating
from edged.client import Client
from edged.runtimes.genai_config import CONFIG, read_config
from edged.runtimes.onnxruntime_genai import GenaiRuntime, backend_module

ROUNDS = 9
TOKENS = 128
SIZE = Size(layers=8, heads=8, kv_heads=2, head=64, inner=1536, context=1024)
"""24 million weights in float32: a token takes milliseconds, as those of models that are used."""
PROMPTS = tuple(f"report {n}: the pump in hall {n} is hot, and the operator says" for n in range(9))
RATE, FIRST = "generation", "generation-first"
RATE_BAR, FIRST_BAR = ">= 0.9", "<= 1.2"
BODY = """\
models:
  story:
    bundle: {bundle}
    runtime: [onnxruntime-genai]
    isolation: model
"""


class Text(NamedTuple):
    """How a text came: seconds to the first token and to the last, and what it was."""

    first_s: float
    whole_s: float
    tokens: list[int]


class Loop:
    """The package as its own examples use it, with the daemon's threads and settings.

    With those of the package its threads wait awake, which on a busy machine is several times
    slower: that would be no measure of what the daemon costs.
    """

    def __init__(self, folder: Path) -> None:
        self._package = backend_module()
        file = folder / CONFIG
        files = [path.name for path in folder.iterdir()]
        threads = len(os.sched_getaffinity(0))
        file.write_bytes(read_config(file.read_bytes(), files).written(threads))
        config = self._package.Config(str(folder))
        self._model = self._package.Model(config)
        self._tokenizer = self._package.Tokenizer(self._model)

    def text(self, prompt: str) -> Text:
        """One, by greedy decoding; each token is decoded as it comes."""
        began = time.perf_counter()
        ids = self._tokenizer.encode(prompt)
        params = self._package.GeneratorParams(self._model)
        params.set_search_options(max_length=len(ids) + TOKENS, do_sample=False)
        generator = self._package.Generator(self._model, params)
        generator.append_tokens(ids)
        stream = self._tokenizer.create_stream()
        tokens: list[int] = []
        first_s = 0.0
        while not generator.is_done():
            generator.generate_next_token()
            tokens.append(int(generator.get_next_tokens()[0]))
            stream.decode(tokens[-1])
            first_s = first_s or time.perf_counter() - began
        return Text(first_s, time.perf_counter() - began, tokens)


def texts(stand: Stand) -> list[Row]:
    """Tokens a second ÷ those of the loop; time to the first token ÷ that of the loop."""
    if problem := GenaiRuntime(threads=0).info().problem:
        return [
            not_measured(RATE, "x", RATE_BAR, problem),
            not_measured(FIRST, "x", FIRST_BAR, problem),
        ]
    folder = stand.folder / "story"
    make_folder(folder, SIZE)
    bundle = stand.folder / "story-1.edgb"
    pack_folder(folder, bundle, Wish("story"))
    sides: dict[str, list[Text]] = {"daemon": [], "loop": []}
    loop = Loop(folder)  # changes the folder, which is packed by now
    with stand.daemon(BODY.format(bundle=bundle)) as daemon, daemon.client() as client:
        daemon.wait_until_served("story")
        prompts = [one for one in PROMPTS if len(loop.text(one).tokens) == TOKENS]
        if not prompts:
            raise BenchError("after none of the prompts does the model go on for long enough")
        for prompt in prompts:
            if _through(client, prompt).tokens != loop.text(prompt).tokens:
                raise BenchError(f'after "{prompt}" the daemon makes other tokens than the loop')
        for turn in range(ROUNDS):
            prompt = prompts[turn % len(prompts)]
            # Whoever is first in a round is second in the next.
            for side in ("daemon", "loop")[:: 1 if turn % 2 else -1]:
                made = _through(client, prompt) if side == "daemon" else loop.text(prompt)
                sides[side].append(made)
    return _rows(sides)


def _through(client: Client, prompt: str) -> Text:
    began, first_s, tokens = time.perf_counter(), 0.0, list[int]()
    request = generating.request(prompt, max_new_tokens=TOKENS)
    for answer in client.stream("story", request, timeout=60):
        first_s = first_s or time.perf_counter() - began
        tokens += answer["tokens"].tolist()
    return Text(first_s, time.perf_counter() - began, tokens)


def _rows(sides: dict[str, list[Text]]) -> list[Row]:
    rates = {name: [TOKENS / one.whole_s for one in made] for name, made in sides.items()}
    firsts = {name: [one.first_s * 1e3 for one in made] for name, made in sides.items()}
    load: dict[str, Any] = {"load_average": load_average()}
    return [
        measured(
            RATE,
            figures.paired_ratio(rates["daemon"], rates["loop"]),
            "x",
            RATE_BAR,
            {"tokens_per_s": rates} | load,
        ),
        measured(
            FIRST,
            figures.paired_ratio(firsts["daemon"], firsts["loop"]),
            "x",
            FIRST_BAR,
            {"first_token_ms": firsts} | load,
        ),
    ]
