"""The peers: what is installed for each, how it is started, and the settings that serve it best.

The settings were tried one against the other on ``tiny``: BentoML's batching makes a lone request
wait and gives sixteen nothing; MLServer's worker process halves its rate; KServe has no batching.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.peers import asking
from benchmarks.peers.environment import Environment, home, shared_python
from benchmarks.peers.server import Server
from benchmarks.stand import BenchError

PROGRAMS = Path(__file__).resolve().parent / "programs"
PREPARE_S = 120.0


@dataclass(frozen=True)
class Peer:
    """One server that is measured.

    Args:
        name: in rows and in the picture.
        environment: folder name of its environment; two peers may share one.
        packages: what is in it; the first is the peer.
        form: of its HTTP requests; None for one that speaks gRPC only.
        has_grpc: whether it answers the Open Inference Protocol over gRPC.
        settings: what was chosen, in a few words.
        variables: environment variables.
    """

    name: str
    environment: str
    packages: tuple[str, ...]
    form: asking.Form | None
    has_grpc: bool
    settings: str
    variables: Mapping[str, str] = field(default_factory=dict)

    def home(self, onnxruntime: str) -> Environment:
        """Its environment, with this release of ONNX Runtime."""
        packages = tuple(one.format(onnxruntime=onnxruntime) for one in self.packages)
        return Environment(home() / self.environment, packages)


_ORT = "onnxruntime=={onnxruntime}"
_TRITON = ("nvidia-pytriton==0.7.0", "numpy<2", _ORT)
PEERS = (
    Peer(
        "triton",
        "triton",
        _TRITON,
        asking.OIP_BINARY,
        has_grpc=True,
        settings="tritonserver of nvidia-pytriton, Python backend, dynamic batching up to 16",
    ),
    Peer(
        "pytriton",
        "triton",
        _TRITON,
        asking.OIP_BINARY,
        has_grpc=True,
        settings="the same server through pytriton's own proxy, dynamic batching up to 16",
    ),
    Peer(
        "mlserver",
        "mlserver",
        ("mlserver==1.7.1", "uvloop<0.22", _ORT),
        asking.OIP_JSON,
        has_grpc=True,
        settings="no worker process, no batching, metrics off",
    ),
    Peer(
        "kserve",
        "kserve",
        ("kserve==0.21.0", _ORT),
        asking.OIP_JSON,
        has_grpc=True,
        settings="one process, uvloop, no access log",
    ),
    Peer(
        "bentoml",
        "bentoml",
        ("bentoml==1.4.40", "uvloop", "httptools", _ORT),
        asking.Form("/predict", "named"),
        has_grpc=False,
        settings="one worker, no batching, metrics and access log off, uvloop and httptools",
    ),
    Peer(
        "litserve",
        "litserve",
        ("litserve==0.2.19", "uvloop", "httptools", _ORT),
        asking.Form("/predict", "named"),
        has_grpc=False,
        settings="one worker, batches of what waits up to 16, its fast queue, uvloop and httptools",
        variables={"PEER_BATCH": "16", "PEER_FAST": "yes"},
    ),
    Peer(
        "mlflow",
        "mlflow",
        ("mlflow==3.17.2", "onnx", "uvloop", "httptools", _ORT),
        asking.Form("/invocations", "inputs"),
        has_grpc=False,
        settings="one worker, the ONNX flavour, uvloop and httptools",
    ),
)
CLIENT = ("tritonclient[grpc]==2.73.0", _ORT)
FLOOR = Peer(
    "grpcio",
    "client",
    CLIENT,
    None,
    has_grpc=True,
    settings="a bare grpcio server, a generic handler on bytes that only runs the model",
)
"""What the gRPC rows are held against; Triton's client asks from the same environment."""


def start(
    peer: Peer, environment: Environment, model: Path, folder: Path, ports: list[int]
) -> Server:
    """Start a peer on ports of 127.0.0.1.

    Args:
        peer: which.
        environment: made.
        model: the ONNX file.
        folder: for what it writes; made here.
        ports: of HTTP, of gRPC, and one more.

    Raises:
        BenchError: it cannot be started here; says why.
    """
    folder.mkdir(parents=True, exist_ok=True)
    variables = {
        "PEER_MODEL": str(model),
        "PEER_HTTP": str(ports[0]),
        "PEER_GRPC": str(ports[1]),
        "PATH": f"{environment.folder}/bin:/usr/bin:/bin",
        **peer.variables,
    }
    binaries = environment.folder / "bin"
    place: Path | None = None
    command: list[str | Path] = [environment.python, PROGRAMS / f"{peer.name}_server.py"]
    if peer.name == "mlserver":
        _describe_mlserver(folder, ports)
        variables["PYTHONPATH"] = str(PROGRAMS)
        command = [binaries / "mlserver", "start", folder]
    elif peer.name == "bentoml":
        variables |= {"BENTOML_HOME": str(folder), "BENTOML_DO_NOT_TRACK": "True"}
        command = [binaries / "bentoml", "serve", "bentoml_service:Tiny", "--host", "127.0.0.1"]
        command += ["--port", str(ports[0]), "--working-dir", PROGRAMS]
    elif peer.name == "mlflow":
        variables["MLFLOW_DISABLE_TELEMETRY"] = "true"
        saved = folder / "model"
        save = [environment.python, PROGRAMS / "mlflow_save.py", model, saved]
        _prepare(Server("mlflow", save, folder, variables))
        command = [binaries / "mlflow", "models", "serve", "--model-uri", saved, "--env-manager"]
        command += ["local", "--host", "127.0.0.1", "--port", str(ports[0]), "--workers", "1"]
    elif peer.name == "triton":
        command, more = _triton(environment, folder, ports)
        # Its stub does not read PYTHONPATH; where it is started comes first in its search.
        place, variables = environment.site, variables | more
    elif peer.name == "pytriton":
        # The stub would take the system's library beside this interpreter's modules.
        variables["LD_LIBRARY_PATH"] = str(shared_python())
    elif peer.name == "grpcio":
        command = [environment.python, PROGRAMS / "grpc_floor.py"]
    return Server(peer.name, command, folder, variables, place)


def _prepare(work: Server) -> None:
    try:
        status = work.result(PREPARE_S)
        if status:
            raise BenchError(f"{work.name} did not save the model ({status}):\n{work.tail()}")
    finally:
        work.end()


def _describe_mlserver(folder: Path, ports: list[int]) -> None:
    server = {
        "host": "127.0.0.1", "http_port": ports[0], "grpc_port": ports[1], "metrics_endpoint": None,
        "metrics_port": ports[2], "parallel_workers": 0, "debug": False,
    }  # fmt: skip
    model = {"name": asking.MODEL, "implementation": "mlserver_model.Tiny"}
    (folder / "settings.json").write_text(json.dumps(server))
    (folder / "model-settings.json").write_text(json.dumps(model))


def _triton(
    environment: Environment, folder: Path, ports: list[int]
) -> tuple[list[str | Path], dict[str, str]]:
    """The server's command line and variables; its model repository and backend are laid out."""
    package = environment.site / "pytriton/tritonserver"
    version = environment.site.parent.name.removeprefix("python")
    library = shared_python()
    backend = folder / "backends/python"
    shutil.copytree(package / "backends/python", backend, dirs_exist_ok=True)
    shutil.copytree(package / "python_backend_stubs" / version, backend, dirs_exist_ok=True)
    model = folder / "models" / asking.MODEL
    (model / "1").mkdir(parents=True, exist_ok=True)
    shutil.copy(PROGRAMS / "triton_model.py", model / "1/model.py")
    (model / "config.pbtxt").write_text(
        f'name: "{asking.MODEL}" backend: "python" max_batch_size: 16 dynamic_batching {{}}\n'
        f'input [{{name: "{asking.INPUT}" data_type: TYPE_FP32 dims: [4]}}]\n'
        f'output [{{name: "{asking.OUTPUT}" data_type: TYPE_FP32 dims: [3]}}]\n'
        "instance_group [{kind: KIND_CPU count: 1}]\n"
    )
    command: list[str | Path] = [package / "bin/tritonserver"]
    options: dict[str, str | Path | int] = {
        "model-repository": folder / "models", "backend-directory": folder / "backends",
        "http-address": "127.0.0.1", "http-port": ports[0], "grpc-address": "127.0.0.1",
        "grpc-port": ports[1], "allow-metrics": "false",
    }  # fmt: skip
    command += [f"--{name}={value}" for name, value in options.items()]
    libraries = f"{environment.site / 'nvidia_pytriton.libs'}:{library}"
    return command, {"LD_LIBRARY_PATH": libraries}
