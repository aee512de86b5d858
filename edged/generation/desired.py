"""Configuration that comes over MQTT: decided upon once, applied as a file would be, and answered.

Decides whether a message may change this device now. What it changes goes the way of any edit: it
is checked, built beside what serves, swapped in whole, and watched; and it goes back by itself
(``returns.py``). Messages come one at a time; of several that wait, the newest counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any

from edged.config.desired import UNSIGNED, DesiredConfig, version_in
from edged.config.documents import State, Verdict, read_document
from edged.config.identity import node_name
from edged.config.load import Snapshot, load, parse, with_document
from edged.config.problems import ConfigProblemsError
from edged.config.source import Source
from edged.errors import ApplyError, EdgedError, InvalidRequestError
from edged.generation.documents import TRIES_CAP, Documents
from edged.generation.envelope import Envelope, load_signers, open_envelope, payload_digest
from edged.generation.house import House
from edged.generation.reload import Reloader
from edged.store.trust_store import TrustStore

log = logging.getLogger("edged.reload")

TOPIC_NAME = "config/desired"
_PAUSE_S = 0.2
"""Between two messages: whoever floods the topic costs little of the processor."""
_WRITING_S, _MOST_WAITS = 0.1, 100
_REPORTED_PROBLEMS = 20


class Desired:
    """See above; used from the event loop.

    Args:
        house: the long-lived parts.
        reloader: changes what is in effect.
        report: publishes what ``<base>/config/reported`` says.
    """

    def __init__(
        self, house: House, reloader: Reloader, report: Callable[[dict[str, Any]], None]
    ) -> None:
        self.taken = self.refused = self.repeated = 0
        self._house = house
        self._reloader = reloader
        self._report = report
        self._waiting: tuple[bytes, Callable[[], None]] | None = None
        self._task: asyncio.Task[None] | None = None
        self._looks: set[asyncio.Task[None]] = set()
        self._state = State()
        self._refusal: dict[str, Any] | None = None
        self._is_open = self._is_started = False
        reloader.on_verdict = self.refresh_soon

    @property
    def _documents(self) -> Documents:
        return self._house.record.documents

    async def start(self) -> None:
        """After the boot: finish what a death of the daemon interrupted, then what came since."""
        await self._settle()
        self._is_started = True
        if self._waiting is not None and self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._work())

    async def _settle(self) -> None:
        await self.refresh()
        verdict = self._state.verdict
        if verdict is None or verdict.what != "trying":
            return
        if verdict.version == self._state.current:
            if not self._reloader.must_prove and self._documents.trying:
                self._documents.trying = 0
                await self._decide("accepted")
            return
        self._task = asyncio.get_running_loop().create_task(self._finish(verdict))

    def stop(self) -> None:
        """Take nothing more."""
        self._waiting = None
        if self._task is not None:
            self._task.cancel()

    def offer(self, payload: bytes, on_done: Callable[[], None]) -> None:
        """A message came.

        Args:
            payload: its own.
            on_done: told when it was decided upon, or a newer one came.
        """
        if self._waiting is not None:
            self._waiting[1]()
        self._waiting = (payload, on_done)
        # A broker may have one kept for us while the boot is still under way.
        if self._is_started and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._work())

    def review(self) -> None:
        """Something about what is in effect has changed: say so."""
        snapshot, health = self._reloader.snapshot, self._house.health
        if snapshot.left_out:
            version = self._state.current
            health.degrade(
                "desired",
                f"version {version} of {TOPIC_NAME} does not agree with the files, which are in "
                f"effect without it: {snapshot.left_out[0]}",
            )
        else:
            health.restore("desired")
        config, document = self._config(), self.document()
        is_open = config is not None and not config.keys
        if is_open and not self._is_open:
            log.warning("mqtt.desired %s", UNSIGNED)
        self._is_open = is_open
        if document is not None:
            self._report(document)

    async def refresh(self) -> None:
        """Look at the notes again, and say what has changed."""
        await self._read()
        self.review()

    def refresh_soon(self) -> None:
        """The same, of whoever cannot wait for the disk."""
        task = asyncio.get_running_loop().create_task(self.refresh())
        self._looks.add(task)
        task.add_done_callback(self._looks.discard)

    def document(self) -> dict[str, Any] | None:
        """What ``<base>/config/reported`` says; None where nothing may come over MQTT."""
        if self._config() is None:
            return None
        reloader, verdict = self._reloader, self._state.verdict
        snapshot = reloader.snapshot
        return {
            "generation": self._house.dataplane.table.generation,
            "digest": reloader.digest,
            "confirmed": not reloader.must_prove
            or (reloader.window_left_s is None and not reloader.unnoted),
            "applied": reloader.report.applied,
            "version": version_in(snapshot.files) or None,
            "desired": self._said(verdict) if verdict is not None else None,
            "left_out": self._lines(map(str, snapshot.left_out)),
            "refused": self._refusal,
        }

    def as_dict(self) -> dict[str, int] | None:
        """What is counted of messages, and the version in effect; None where none may come."""
        if self._config() is None:
            return None
        return {
            "version": version_in(self._reloader.snapshot.files),
            "taken": self.taken,
            "refused": self.refused,
            "repeated": self.repeated,
        }

    def _said(self, verdict: Verdict) -> dict[str, Any]:
        return {
            "version": verdict.version,
            "state": verdict.what,
            "at": verdict.at,
            "problems": self._lines(verdict.problems),
        }

    def _lines(self, lines: Any) -> list[str]:
        """For whoever reads the broker: places in the files, but not where these lie."""
        snapshot = self._reloader.snapshot
        state, root = f"{self._documents.directory}/", f"{snapshot.root}/"
        cleaned = (str(one).replace(state, f"{TOPIC_NAME}/").replace(root, "") for one in lines)
        return list(cleaned)[:_REPORTED_PROBLEMS]

    def _config(self) -> DesiredConfig | None:
        mqtt = self._reloader.config.mqtt
        return mqtt.desired if mqtt is not None else None

    async def _work(self) -> None:
        while self._waiting is not None:
            (payload, on_done), self._waiting = self._waiting, None
            try:
                await self._take(payload)
            except Exception:
                log.exception("a document over MQTT failed in an unexpected way")
                self._refuse(payload, "failed in an unexpected way; see the daemon's log")
            on_done()
            await asyncio.sleep(_PAUSE_S)

    async def _take(self, payload: bytes) -> None:
        config = self._config()
        if config is None:
            return
        await self._read()
        sha256 = payload_digest(payload)
        verdict = self._state.verdict
        if verdict is not None and verdict.sha256 == sha256:
            self.repeated += 1  # it was answered, and what was said is still there
            return
        if self._refusal is not None and self._refusal["sha256"] == sha256:
            self.repeated += 1
            return
        try:
            envelope = await asyncio.to_thread(self._open, payload, config)
        except EdgedError as exc:
            self._refuse(payload, exc.message)
            return
        self._refusal = None
        try:
            await self._change(envelope, sha256)
        except (EdgedError, OSError) as exc:
            said = exc.message if isinstance(exc, EdgedError) else str(exc)
            self._refuse(payload, f"could not be noted: {said}")

    def _open(self, payload: bytes, config: DesiredConfig) -> Envelope:
        node, most_bytes = node_name(self._reloader.config), int(config.max_size)
        snapshot = self._reloader.snapshot
        envelope, _ = open_envelope(payload, _signers(snapshot, config), node, most_bytes)
        if snapshot.kept is not None:
            # It came back with whom it trusted; the files, which have the last word, may not now.
            with contextlib.suppress(ConfigProblemsError):
                files = load(self._house.config_path)
                mqtt = files.config.mqtt
                if mqtt is None or mqtt.desired is None:
                    raise InvalidRequestError("the files, which are set aside, take no documents")
                open_envelope(payload, _signers(files, mqtt.desired), node, most_bytes)
        seen = self._documents.state().seen
        if envelope.version <= seen:
            raise InvalidRequestError(
                f"version {envelope.version} was used; {seen} is the last one that was decided "
                f"upon, and versions only rise: use {seen + 1} or more"
            )
        return envelope

    async def _change(self, envelope: Envelope, sha256: str) -> None:
        reloader, table = self._reloader, self._house.dataplane.table
        version, text = envelope.version, envelope.document
        async with reloader.changing:
            base = reloader.digest
            await asyncio.to_thread(self._documents.begin, version, sha256, text, base)
            if not envelope.is_against(table.generation, base):
                await self._decide(
                    "rejected",
                    f"was made against {envelope.against}; in effect is generation "
                    f"{self._house.dataplane.table.generation}, digest {base}",
                )
                return
        await self._apply(version, text)

    async def _finish(self, verdict: Verdict) -> None:
        try:
            await self._resume(verdict)
        except (EdgedError, OSError) as exc:
            log.error("version %d of %s: %s", verdict.version, TOPIC_NAME, exc)
        await self._work()

    async def _resume(self, verdict: Verdict) -> None:
        """What the daemon did not live to decide is decided now."""
        document = await asyncio.to_thread(
            read_document, self._documents.directory, verdict.version
        )
        if verdict.tries >= TRIES_CAP:
            await self._decide("rejected", f"the daemon died {verdict.tries} times with it")
        elif document is None or verdict.base != self._reloader.digest:
            await self._decide(
                "rejected", "the daemon died with it, and what it changes has changed"
            )
        else:
            text = document.data.decode("utf-8", "surrogatepass")
            words = (verdict.version, verdict.sha256, text, verdict.base)
            await asyncio.to_thread(self._documents.begin, *words)
            await self._apply(verdict.version, text)

    async def _apply(self, version: int, text: str) -> None:
        reloader, documents = self._reloader, self._documents
        reloader.on_begin()
        try:
            for _ in range(_MOST_WAITS):
                async with reloader.changing:
                    snapshot = await asyncio.to_thread(self._load, version, text)
                    if not reloader.is_writing():
                        await self._swap(snapshot)
                        return
                # What was read may be half a file.
                await asyncio.sleep(_WRITING_S)
            raise ApplyError("a file of the configuration is being written; try again")
        except ConfigProblemsError as exc:
            await self._decide("rejected", *map(str, exc.problems))
        except EdgedError as exc:
            await self._decide("rejected", exc.message)
        except asyncio.CancelledError:
            documents.trying = 0
            raise
        finally:
            reloader.on_end()

    def _load(self, version: int, text: str) -> Snapshot:
        files = load(self._house.config_path)
        if not text.strip():
            return files
        document = read_document(self._documents.directory, version)
        if document is None:
            raise ApplyError("the document cannot be read any more")
        source = with_document(Source(files.root, dict(files.files)), document)
        return parse(source, source.root)

    async def _swap(self, snapshot: Snapshot) -> None:
        """Let it take effect, and lie beside the files; the lock is held."""
        documents, reloader = self._documents, self._reloader
        before = documents.trying
        verdict = (await asyncio.to_thread(documents.state)).verdict
        assert verdict is not None
        documents.trying = verdict.version
        try:
            await reloader.take(snapshot)
        except BaseException:
            documents.trying = before
            raise
        try:
            await asyncio.to_thread(documents.take, verdict.version)
        except OSError as exc:
            documents.trying = before
            reloader.request()  # what cannot be noted must not serve
            raise ApplyError(f"the state directory cannot be written: {exc.strerror}") from exc
        self.taken += 1
        log.info("version %d of %s is in effect", verdict.version, TOPIC_NAME)
        reloader.accepted()
        if reloader.window_left_s is None:
            documents.trying = 0
            await asyncio.to_thread(documents.decide, "accepted")
        await self.refresh()

    async def _decide(self, what: Any, *problems: str) -> None:
        await asyncio.to_thread(self._documents.decide, what, problems)
        if problems:
            self.refused += 1
            log.error("%s %s: %s", TOPIC_NAME, what, problems[0])
        await self.refresh()

    def _refuse(self, payload: bytes, problem: str) -> None:
        """Nothing of the message is believed; no version was used."""
        self.refused += 1
        log.warning("%s: %s", TOPIC_NAME, problem)
        self._refusal = {"sha256": payload_digest(payload), "problems": self._lines([problem])}
        self.review()

    async def _read(self) -> None:
        try:
            self._state = await asyncio.to_thread(self._documents.state)
        except (EdgedError, OSError) as exc:
            log.error("what is known of documents cannot be read: %s", exc)


def _signers(snapshot: Snapshot, config: DesiredConfig) -> TrustStore:
    paths = [snapshot.resolve(key) for key in config.keys]
    is_required = snapshot.config.trust.require_signatures
    return load_signers(paths, config.threshold, is_required=is_required)
