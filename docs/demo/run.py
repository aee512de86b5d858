"""The whole way once, with real programs: train, convert, sign, serve, change under load, count.

    make demo                         or    python docs/demo/run.py [--dir DIR] [--keep]

Ends with exit status 0 only if every published message got exactly one right result.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from plant import BROKER, DEAD_LETTERS, MODELS, RESULTS, Model, broken, configuration
from processes import (
    ENVIRONMENT,
    DemoError,
    Process,
    Processes,
    free_port,
    is_listening,
    program,
    run_together,
    wait_for,
)
from tally import TOLERANCE, Tally
from view import View, plain

import edged

HERE = Path(__file__).resolve().parent
NETWORK = "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx"
"""A pre-trained text orientation classifier (Apache-2.0), carried by rapidocr-onnxruntime 1.4.4."""
LOAD_S = 5.0
"""How long messages flow before, between and after the edits."""
READY_S = 60.0
ANSWER_S = 20.0
"""How long the last results may take after the last message."""


class Demo:
    """The story, part by part; each part checks what it claims."""

    def __init__(self, folder: Path, network: Path, processes: Processes, view: View) -> None:
        self.folder = folder
        self.network = network
        self.processes = processes
        self.view = view
        self.tally = Tally()
        self.port = free_port()
        # A Unix socket's path has at most 107 bytes; a checkout may lie deeper than that.
        self.socket = Path(tempfile.mkdtemp(prefix="edged-demo-")) / "edged.sock"
        self.config = folder / "edged.yaml"
        self.models: list[Model] = []
        self.failures: list[str] = []

    def check(self, text: str, *, is_good: bool) -> None:
        """Show one check and remember a failure."""
        self.view.verdict(text, is_good=is_good)
        if not is_good:
            self.failures.append(text)

    def train(self) -> None:
        """Make the models with their own frameworks, in a process of their own."""
        self.view.title("1. Train, with each framework's own tools")
        made: list[str] = []
        command = [sys.executable, str(HERE / "models.py"), str(self.folder), str(self.network)]
        bar, step = self.view.progress(5 if _has_torch() else 4)
        with bar, (self.folder / "train.log").open("w") as log:
            child = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, text=True, env=ENVIRONMENT
            )
            for line in child.stdout or ():
                made.append(line.strip())
                step(made[-1])
        if child.wait() != 0:
            raise DemoError(f"training failed\n{(self.folder / 'train.log').read_text()[-2000:]}")
        self.models = [model for model in MODELS if set(model.bundles) <= set(made)]
        if not _has_torch():
            self.view.line("PyTorch is not installed here; its network is left out")
        for model in self.models:
            for release, bundle in enumerate(model.bundles, start=1):
                self.tally.add_model(model.name, release, self.folder / f"{bundle}.reference.npz")

    def convert(self) -> None:
        """Source to signed bundle, two at a time; the numbers are proven on the framework's own."""
        self.view.title("2. Convert to ONNX, prove the numbers, sign")
        convert = program("edged-convert")
        _run([convert, "keygen", str(self.folder / "site")], self.folder)
        commands = {
            bundle: [
                convert, "--recipe", f"{bundle}.yaml", "-o", f"{bundle}.edgb",
                "--key", "site.key", "--trust",
            ]
            for model in self.models
            for bundle in model.bundles
        }  # fmt: skip
        bar, step = self.view.progress(len(commands))
        with bar:
            for name, outcome in run_together(commands, self.folder, 2):
                (self.folder / f"{name}.convert.log").write_text(outcome.stdout + outcome.stderr)
                if outcome.returncode != 0:
                    raise DemoError(f"edged-convert {name}:\n{outcome.stderr}")
                step(f"{name}.edgb")
        last = f"{self.models[0].bundles[-1]}.edgb"
        text = _run([convert, "verify", last, "--key", "site.pub", "--run"], self.folder)
        for line in text.strip().splitlines():
            self.view.line(f"{last}: {line}")

    def start(self) -> None:
        """Broker, daemon, subscriber, devices."""
        self.view.title("3. Start broker, daemon, a counting subscriber and the devices")
        conf = self.folder / "mosquitto.conf"
        conf.write_text(BROKER.format(port=self.port))
        path = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
        if path is None:
            raise DemoError("mosquitto is not installed (Debian: sudo apt-get install mosquitto)")
        broker = self.processes.start("mosquitto", [path, "-c", str(conf)])
        wait_for("mosquitto", lambda: is_listening(self.port), broker)
        self.save(self.text({}))
        _run([program("edged"), "check", "--config", str(self.config)], self.folder)
        started = time.monotonic()
        daemon = self.daemon = self.processes.start(
            "edged", [program("edged"), "run", "--config", str(self.config)]
        )
        wait_for("edged", lambda: self.status().get("ready"), daemon, READY_S)
        self.view.line(f"edged is ready after {time.monotonic() - started:.2f} s")
        wait_for("the broker link", lambda: "connected" in str(self.status().get("mqtt")), daemon)
        counter = [sys.executable, str(HERE / "counter.py"), str(self.port), RESULTS, DEAD_LETTERS]
        self.counter = self.processes.start("counter", counter, self.tally.on_result)
        wait_for("the subscriber", lambda: self.tally.is_subscribed, self.counter)
        self.devices = [self._start_devices(model) for model in self.models]
        count, rate = sum(m.devices for m in self.models), sum(m.rate for m in self.models)
        self.view.line(f"{count} devices publish {rate:.0f} messages a second at QoS 1")

    def _start_devices(self, model: Model) -> Process:
        reference = self.folder / f"{model.bundles[0]}.reference.npz"
        command = [
            sys.executable, str(HERE / "devices.py"), str(self.port), model.name, str(reference),
            str(model.devices), str(model.rate), model.topic,
        ]  # fmt: skip
        return self.processes.start(f"devices-{model.name}", command, self.tally.on_sent)

    def serve(self) -> None:
        """Messages flow; a local application asks for the same over the Unix socket."""
        self.view.title("4. Messages flow; a local application calls over the Unix socket")
        answers: list[dict[str, Any]] = []
        reference = self.folder / "digits-1.reference.npz"
        command = [sys.executable, str(HERE / "local_app.py"), str(self.socket), str(reference)]
        app = self.processes.start("local-app", command, answers.append)
        self.view.watch(self.tally, lambda: False, LOAD_S)
        self.view.watch(self.tally, lambda: not app.is_running, ANSWER_S)
        app.finish()
        if not answers:
            raise DemoError(f"the local application failed\n{app.tail()}")
        got = answers[0]
        text = (
            f"socket: {got['labels_equal']} of {got['asked']} labels equal, worst difference "
            f"{got['worst']:.1e}, p50 {got['p50_us']:.0f} us, p99 {got['p99_us']:.0f} us a call"
        )
        is_good = got["labels_equal"] == got["asked"] and got["worst"] <= TOLERANCE
        self.check(text, is_good=is_good)

    def edit(self) -> None:
        """An operator changes one line; release 2 takes over between two messages."""
        self.view.title('5. The operator edits edged.yaml: "serve: 1" becomes "serve: 2"')
        before = self.status()["generation"]
        self.save(self.text({"digits": 2}))
        digits = self.tally.models["digits"]
        is_there = self.view.watch(self.tally, lambda: digits.releases.get(2), ANSWER_S)
        self.view.watch(self.tally, lambda: False, LOAD_S)
        after = self.status()["generation"]
        text = f"generation {before} became {after}; digits release 2 answers"
        self.check(text, is_good=is_there and after > before)

    def slip(self) -> None:
        """A broken file is refused with its place, and nothing changes for anybody."""
        self.view.title('6. The operator slips: "model" becomes "modle"')
        before, good = self.status()["generation"], self.config.read_text()
        self.save(broken(good))
        refused = self.view.watch(self.tally, self.refusals, ANSWER_S)
        problems = self.refusals()
        for line in problems:
            self.view.line(f"refused: {line}")
        line_number = broken(good).splitlines().index("    modle: cells") + 1
        is_placed = any(f"edged.yaml:{line_number}:" in problem for problem in problems)
        check = subprocess.run(
            [program("edged"), "check", "--config", str(self.config)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        self.check(
            f"refused with file and line; edged check says so too (exit {check.returncode})",
            is_good=refused and is_placed and check.returncode == 78,
        )
        answered = sum(model.answered for model in self.tally.models.values())
        self.view.watch(self.tally, lambda: False, LOAD_S)
        flowed = sum(model.answered for model in self.tally.models.values()) - answered
        self.check(
            f"generation {before} kept serving: {flowed} more results while the file was broken",
            is_good=flowed > 0 and self.status()["generation"] == before,
        )
        self.save(good)
        healed = self.view.watch(self.tally, lambda: not self.refusals(), ANSWER_S)
        self.check("the file is put right and taken", is_good=healed)

    def count(self) -> None:
        """Stop the devices, wait for the last results, and count by id."""
        self.view.title("7. Count by id")
        for devices in self.devices:
            devices.finish()
        self.view.watch(self.tally, lambda: not self.tally.missing, ANSWER_S)
        time.sleep(0.5)  # a second result for some id would come now
        self.counter.finish()
        for line in plain(self.tally):
            self.view.line(line)
        models, tally = self.tally.models.values(), self.tally
        sent, worst = sum(m.sent for m in models), max(m.worst for m in models)
        self.check(f"{sent} ids published, {len(tally.missing)} without a result",
                   is_good=sent > 0 and not tally.missing)  # fmt: skip
        self.check("exactly one result for each id, none for any other",
                   is_good=not tally.problems and not tally.strangers)  # fmt: skip
        for problem in [*tally.problems, *tally.strangers][:10]:
            self.view.line(problem)
        equal = sum(m.labels_equal for m in models)
        self.check(f"{equal} of {sent} labels equal the framework's own", is_good=equal == sent)
        self.check(f"probabilities differ by {worst:.1e} at most (allowed {TOLERANCE:.0e})",
                   is_good=worst <= TOLERANCE)  # fmt: skip
        by_generation = ", ".join(f"{g}: {n}" for g, n in sorted(tally.generations.items()))
        self.view.line(f"results by generation: {by_generation}")

    def stop(self) -> None:
        """SIGTERM: the daemon finishes what it has and ends by itself."""
        status = self.daemon.stop()
        self.check(f"SIGTERM: drained and ended (exit {status})", is_good=status == 0)

    def text(self, serve: dict[str, int]) -> str:
        """edged.yaml with some models on other releases than their first."""
        return configuration(self.folder, self.socket, self.port, self.models, serve)

    def save(self, text: str) -> None:
        """Write edged.yaml in place, as a simple editor does."""
        self.config.write_text(text)

    def status(self) -> dict[str, Any]:
        """What ``edged status`` says; empty while nobody listens."""
        command = [program("edged"), "status", "--json", "--socket", str(self.socket)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return json.loads(done.stdout) if done.stdout.startswith("{") else {}

    def refusals(self) -> list[str]:
        """Why the files are not what is in effect."""
        config = self.status().get("config", {})
        return [] if config.get("applied") else list(config.get("problems", ()))

    def try_next(self, *, keep: bool) -> None:
        """Commands with which to look around."""
        edged_program, where = _shown(program("edged")), f"--socket {self.socket}"
        self.view.title("Try next")
        self.view.line(
            f"{_shown(program('edged-convert'))} inspect {_shown(self.folder / 'digits-2.edgb')}"
        )
        report = _shown(self.folder / "digits-2.report.html")
        self.view.line(f"open {report} in a browser: what was proven of this bundle")
        self.view.line(f"{edged_program} device")
        if not keep:
            self.view.line("make demo ARGS=--keep     # stays up afterwards, to look into it")
            return
        self.view.line(f"{edged_program} check --config {_shown(self.config)}")
        self.view.line(f"{edged_program} status {where}")
        self.view.line(f"{edged_program} models {where}")
        picture = _shown(self.folder / "digits-1.example.png")
        self.view.line(f"{edged_program} infer digits @{picture} {where}")
        self.view.line(f"edit {_shown(self.config)}, save it, and look at the status again")


def _shown(path: Path | str) -> str:
    """The path as one would type it here."""
    here, whole = Path.cwd(), Path(path)
    return str(whole.relative_to(here)) if whole.is_relative_to(here) else str(whole)


def _has_torch() -> bool:
    import importlib.util  # noqa: PLC0415

    return importlib.util.find_spec("torch") is not None


def _run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise DemoError(f"{' '.join(command)}:\n{done.stdout}{done.stderr}")
    return done.stdout


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--dir", type=Path, default=Path(".demo"), help="made anew (.demo)")
    parser.add_argument("--keep", action="store_true", help="serve on afterwards, until Ctrl-C")
    parser.add_argument("--network", type=Path, help="the pre-trained ONNX file")
    options = parser.parse_args()
    if options.network is None:
        options.network = Path(sys.prefix) / "share/edged-demo" / NETWORK
    return options


def _tell(demo: Demo, *, keep: bool) -> int:
    started = time.monotonic()
    for part in (
        demo.train,
        demo.convert,
        demo.start,
        demo.serve,
        demo.edit,
        demo.slip,
        demo.count,
    ):
        part()
    if not keep:
        demo.stop()
    seconds = time.monotonic() - started
    result = "every check passed" if not demo.failures else f"{len(demo.failures)} checks FAILED"
    demo.view.title(f"{result}; {seconds:.0f} s")
    demo.try_next(keep=keep)
    if keep:
        demo.view.title("Serving on. Ctrl-C ends it.")
        with contextlib.suppress(KeyboardInterrupt):
            while demo.daemon.is_running:
                time.sleep(0.5)
    return 1 if demo.failures else 0


def main() -> int:
    """Run the demo; 0 if all went as claimed."""
    options = _arguments()
    view = View()
    folder = options.dir.resolve()
    if not options.network.is_file():
        view.line(f"error: {options.network} is not there; start with: make demo")
        return 1
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    view.title(f"edged {edged.__version__}: from trained models to answers, in {folder}")
    with Processes(folder) as processes:
        demo = Demo(folder, options.network, processes, view)
        try:
            return _tell(demo, keep=options.keep)
        except DemoError as exc:
            view.verdict(str(exc), is_good=False)
            return 1
        except KeyboardInterrupt:
            return 130
        finally:
            shutil.rmtree(demo.socket.parent, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
