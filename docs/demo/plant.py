"""The demo's site: its broker and its configuration, as an operator would write them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

BROKER = """\
listener {port} 127.0.0.1
allow_anonymous true
persistence false
log_type error
# Without it small messages wait up to 40 ms for an acknowledgement of the network (Nagle).
set_tcp_nodelay true
"""

HEAD = """\
# The demo's configuration. It is watched: save it, and the change is applied or refused as a whole.
node: demo
state_dir: {folder}/state

listen:
  socket:
    path: {socket}

trust:
  keys: [{folder}/site.pub]

mqtt:
  host: 127.0.0.1
  port: {port}
  max_inflight: 64

models:
"""
MODEL = """\
  {name}:
    bundle: [{bundles}]
    serve: {serve}
"""
BINDING = """\
  - name: {name}
    from: plant/{{device}}/{name}/in
    to: plant/{{device}}/{name}/out
    model: {name}
    codec: {codec}
"""


@dataclass(frozen=True)
class Model:
    """One model as devices use it.

    Args:
        name: the model, its binding and its topic level.
        bundles: file names without ending, by release.
        codec: how devices write their payload.
        rate: messages a second, all devices together.
        devices: how many devices there are.
    """

    name: str
    bundles: tuple[str, ...]
    codec: str
    rate: float
    devices: int

    @property
    def topic(self) -> str:
        """What devices publish to."""
        return f"plant/{{device}}/{self.name}/in"


MODELS = (
    Model("digits", ("digits-1", "digits-2"), "image", 60, 3),
    Model("cells", ("cells-1",), "json", 60, 2),
    Model("orientation", ("orientation-1",), "image", 10, 1),
    Model("digits-cnn", ("digits-cnn-1",), "image", 40, 2),
)
RESULTS = "plant/+/+/out"
DEAD_LETTERS = "edged/demo/error/#"


def configuration(
    folder: Path, socket: Path, port: int, models: list[Model], serve: dict[str, int]
) -> str:
    """The whole edged.yaml.

    Args:
        folder: where bundles, key and state are.
        socket: the Unix socket's path.
        port: the broker's.
        models: what is served.
        serve: releases by model; others serve their first.
    """
    text = HEAD.format(folder=folder, socket=socket, port=port)
    for model in models:
        release = serve.get(model.name, 1)
        bundles = ", ".join(f"{bundle}.edgb" for bundle in model.bundles)
        text += MODEL.format(name=model.name, bundles=bundles, serve=release)
    text += "\nbindings:\n"
    for model in models:
        text += BINDING.format(name=model.name, codec=model.codec)
    return text


def broken(text: str) -> str:
    """The slip of an operator: a field's name with two letters exchanged."""
    return text.replace("    model: cells\n", "    modle: cells\n")
