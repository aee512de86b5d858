"""What one client of the HTTP socket asks for: inference, and pages about models and the server.

Decides what a request starts and what its answer is; never reads or writes a socket.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from edged.access.guard import Guard, guarded
from edged.access.memory import guarded_memory
from edged.access.pages import VisiblePages
from edged.access.visit import Visit
from edged.errors import EdgedError, RuntimeFailureError
from edged.flow import Flow
from edged.messages import InferResponse, Ticket
from edged.protocol import oip
from edged.protocol.frames import Buffer
from edged.protocol.http_answer import BINARY, JSON, encode_answer, encode_error
from edged.protocol.http_coding import LEAST_BYTES, coding_of, compress
from edged.protocol.http_origin import page_trouble
from edged.protocol.http_reader import HttpRequest
from edged.protocol.http_repeat import HttpRepeat, whole_answer
from edged.protocol.oip_answer import Body, encode_response
from edged.protocol.oip_generate import decode_generate
from edged.protocol.oip_request import Asked, decode_raw, decode_request
from edged.protocol.oip_shared import Memory, decode_register, needed, status_document
from edged.runtimes.base import StillRunningError
from edged.transports.http.admin import answer_admin, check_right
from edged.transports.http.gathering import Gathering
from edged.transports.http.generate import Generation
from edged.transports.http.pages import document_of
from edged.transports.http.repeats import Repeats
from edged.transports.http.routes import INFERENCE, PROBES, Page, Route, route_of
from edged.transports.oip_door import Pages

if TYPE_CHECKING:
    from edged.transports.http.endpoint import HttpServer

log = logging.getLogger("edged.http")

_NOT_HERE = "is not allowed on this socket"

Answered = Callable[[list[Buffer], bool], None]
"""Called once for each request, with its answer and whether the connection outlives it."""
Write = Callable[[list[Buffer]], None]


class Requests:
    """The requests of one connection, one at a time.

    Args:
        server: the door, the pages and the limits.
        on_answered: writes an answer.
        write: writes a part of one.
    """

    def __init__(self, server: HttpServer, on_answered: Answered, write: Write) -> None:
        self.origin = "http"
        self.user: int | None = None
        self._server = server
        self._door = server.door
        self._pages: Pages = server.pages
        self._visit: Visit | None = None
        self._on_answered = on_answered
        self.write = write
        self._keeps_alive = True
        self._coding = ""
        """In which the answer to the request that is under way may be compressed."""
        self._is_open = False
        self._ticket: Ticket | None = None
        self._task: asyncio.Task[None] | None = None
        self._generation: Generation | None = None
        self._is_held = False
        self.repeats = Repeats(server.door, server.gatherings)

    def begin(self, request: HttpRequest) -> None:
        """Answer a request, now or later; the one before has been answered."""
        self._keeps_alive = request.keeps_alive
        self._coding = ""
        if self._server.compresses:
            self._coding = coding_of(request.headers.get("accept-encoding", ""))
        self._is_open = True
        try:
            self._handle(request)
        except Exception as exc:
            self._broke(exc)

    def is_again(self, data: bytes) -> bool:
        """Whether these bytes are one request, whole, that ``begin_again`` takes."""
        return self.repeats.fits(data)

    def begin_again(self, data: bytes) -> Gathering | None:
        """Answer a request that differs from one before it in its tensors only.

        Returns:
            Where it is to be asked, when that is not here.
        """
        self._keeps_alive = self._is_open = True
        try:
            answer = self.repeats.answer_alone(data, self.origin, self)
            if answer is not None:
                self.answer([answer])
                return None
            gathering = self.repeats.gathered()
            if gathering is None:
                self._submit_again(data)
            return gathering
        except StillRunningError:
            self.repeats.adopt(data, self.origin, self._respond_again)
        except Exception as exc:
            self._broke(exc)
        return None

    def ask_apart(self, data: bytes) -> bool:
        """Answer one that was to be asked with others; False where nothing is known of it now."""
        self._keeps_alive = self._is_open = True
        if not self.is_again(data):
            return False
        try:
            self._submit_again(data)
        except Exception as exc:
            self._broke(exc)
        return True

    def _submit_again(self, data: bytes) -> None:
        ticket = self.repeats.submit(data, self.origin, self._respond_again)
        if self._is_open:
            self._ticket = ticket

    def enter(self, visit: Visit) -> None:
        """Ask through this from now on."""
        self._visit = visit
        self._pages = VisiblePages(self._server.pages, visit)
        self.review()

    def review(self) -> None:
        """What the client may do has changed, or may have: also what it has asked."""
        if self._visit is None:
            return
        self._door = guarded(self._server.door, self._visit, self._door)
        self.repeats.door = self._door
        self.repeats.clear()
        if isinstance(self._door, Guard):
            self._door.withdraw()

    def withdraw(self) -> None:
        """The client is gone: nobody would read the answer."""
        self._is_open = False
        self.repeats.clear()  # the turn keeps who asked last, for as long as nobody else does
        if self._task is not None:
            self._task.cancel()
        if self._ticket is not None:
            self._ticket.cancel()
        if self._generation is not None:
            self._generation.withdraw()

    def hold(self) -> None:
        """The client does not read: make no more parts of its answer."""
        self._is_held = True
        if self._generation is not None:
            self._generation.hold()

    def release(self) -> None:
        """It reads again."""
        self._is_held = False
        if self._generation is not None:
            self._generation.release()

    def stop(self) -> None:
        """End an answer that comes in parts; another is waited for."""
        if self._generation is not None:
            self._generation.stop()

    def _handle(self, request: HttpRequest) -> None:
        route = route_of(request.target)
        if route is None:
            self._refuse(404, "Not Found")
        elif request.method not in route.methods:
            self._refuse(405, "Method Not Allowed", f"Allow: {', '.join(route.methods)}\r\n")
        elif trouble := page_trouble(request.headers, is_loopback=self._server.is_loopback):
            self._refuse(403, trouble)
        elif route.page is Page.ADMIN:
            self._administer(request, route)
        elif route.page is Page.CUDA:
            self._refuse(501, "memory of a GPU is not served by name")
        else:
            self._allowed(request, route)

    def _allowed(self, request: HttpRequest, route: Route) -> None:
        """Answer what may be asked for on this socket, if this client may."""
        if self._visit is not None:
            if route.page in INFERENCE:
                self._visit.require_early("infer", route.model)  # the door counts it
            elif route.page not in PROBES:
                self._visit.ask()
        if route.page is Page.INFER:
            self._infer(request, route)
        elif route.page in (Page.GENERATE, Page.GENERATE_STREAM):
            self._generate(request, route)
        elif route.page is Page.SHARED:
            self._shared(request, route)
        elif route.page is Page.METRICS:
            work = self._metrics(request.headers.get("accept", ""))
            self._task = asyncio.get_running_loop().create_task(work)
        else:
            server = self._server
            has = {"has_memory": server.memory.is_on, "has_admin": server.admin is not None}
            status, document = document_of(self._pages, route, request.body, **has)
            body: list[Buffer] = [msgspec.json.encode(document)]
            self.answer(encode_answer(body, status, keeps_alive=self._keeps_alive))

    def _administer(self, request: HttpRequest, route: Route) -> None:
        """Do what an administrator asks for, where they are heard."""
        admin = self._server.admin
        if admin is None or self._visit is None:
            self._refuse(403, f"{request.target.partition('?')[0]} {_NOT_HERE}")
            return
        check_right(self._visit, route)
        work = answer_admin(admin, route, request, self)
        self._task = asyncio.get_running_loop().create_task(work)

    def _shared(self, request: HttpRequest, route: Route) -> None:
        """Register, forget or list memory that has a name."""
        memory = needed(self._memory())
        region = route.model or None
        body = b""
        if route.verb == "status":
            body = msgspec.json.encode(status_document(memory.status(region)))
        elif route.verb == "register":
            memory.register(decode_register(route.model, request.body))
        else:
            memory.unregister(region)
        self.answer(encode_answer([body], keeps_alive=self._keeps_alive))

    async def _metrics(self, accept: str) -> None:
        try:
            status, text, content_type = await self._pages.metrics(accept)
            answer = encode_answer([text], status, content_type, keeps_alive=self._keeps_alive)
        except EdgedError as exc:
            self._task = None
            self.fail(exc)
            return
        except Exception:
            log.exception("the figures could not be read")
            text_ = "the figures could not be read; see the log"
            answer = encode_error(500, text_, keeps_alive=self._keeps_alive)
        self._task = None
        self.answer(answer)

    def _infer(self, request: HttpRequest, route: Route) -> None:
        asked = self._decoded(request, route)
        version = int(route.version) if route.version is not None else None
        if request.whole and not self._coding:
            self.repeats.notice(request, asked, route.model, version)
        deadline_ns = time.monotonic_ns() + asked.timeout_us * 1000 if asked.timeout_us else None
        asking = asked.request(route.model, version, deadline_ns, self.origin)

        def on_response(response: InferResponse, final: bool) -> None:
            if final:
                self._ticket = None
                if self._is_open:
                    self._respond(asked, response)

        ticket = self._door.submit(asking, on_response)
        if self._is_open:
            self._ticket = ticket

    def _generate(self, request: HttpRequest, route: Route) -> None:
        server, pages, name = self._server, self._pages, (route.model, route.version)
        specs, makes_text = pages.inputs(*name), pages.makes_text(*name)
        cap = server.max_request_bytes
        asked = decode_generate(request.body, specs, cap, makes_text=makes_text)
        flow = None
        if route.page is Page.GENERATE_STREAM:
            flow = Flow(sys.maxsize, server.unread_wait_s)
            flow.is_held = self._is_held
            # Where there are no chunks, the connection's end is that of the answer.
            self._keeps_alive = self._keeps_alive and request.takes_chunks
        framing = {"is_chunked": request.takes_chunks, "keeps_alive": self._keeps_alive}
        self._generation = Generation(asked, self, flow, **framing)
        self._generation.begin(route, self.origin, self._door.submit)

    def _decoded(self, request: HttpRequest, route: Route) -> Asked:
        body = request.body
        length = None
        if (given := request.headers.get(oip.HEADER_LENGTH)) is not None:
            length = oip.header_length(given, len(body))
        if length == 0 and body:
            return decode_raw(body, self._pages.inputs(route.model, route.version))
        return decode_request(body, length, self._server.max_request_bytes, self._memory())

    def _memory(self) -> Memory | None:
        return guarded_memory(self._server.memory.of(self.user), self._visit)

    def _respond(self, asked: Asked, response: InferResponse) -> None:
        if response.error is not None:
            self.fail(response.error)
            return
        pages = self._pages

        def encode() -> list[Buffer] | None:
            labels = {}
            if asked.wants_labels:
                labels = pages.labels(response.model, response.release)
            if self._coding:
                body = encode_response(asked, response, labels)
                if sum(memoryview(part).nbytes for part in body.parts) >= LEAST_BYTES:
                    work = self._compressed(body)
                    self._task = asyncio.get_running_loop().create_task(work)
                    return None
            return whole_answer(asked, response, labels, keeps_alive=self._keeps_alive)

        self._encoded(encode)

    def _respond_again(self, repeat: HttpRepeat, data: bytes, response: InferResponse) -> None:
        self._ticket = None
        if not self._is_open:
            return
        if response.error is None:
            self._encoded(lambda: repeat.answer(response, data))
            return
        # What the call was prepared for may be no more: the long way looks again.
        self.repeats.clear()
        self.fail(response.error)

    async def _compressed(self, body: Body) -> None:
        """Answer later: a megabyte takes many turns of the loop."""
        packed = await asyncio.to_thread(compress, body.parts, self._coding)
        headers = f"Content-Encoding: {self._coding}\r\nVary: Accept-Encoding\r\n"
        kind = JSON
        if body.json_bytes:
            kind = BINARY
            headers += f"Inference-Header-Content-Length: {body.json_bytes}\r\n"
        self._task = None
        self.answer(encode_answer([packed], 200, kind, headers, keeps_alive=self._keeps_alive))

    def _encoded(self, encode: Callable[[], list[Buffer] | None]) -> None:
        try:
            buffers = encode()
        except EdgedError as exc:
            self.fail(exc)
        except Exception:
            log.exception("an answer to %s could not be written", self.origin)
            self.fail(RuntimeFailureError("the answer could not be written; see the log"))
        else:
            if buffers is not None:
                self.answer(buffers)

    def _refuse(self, status: int, text: str, headers: str = "") -> None:
        self.answer(encode_error(status, text, headers, keeps_alive=self._keeps_alive))

    def _broke(self, error: Exception) -> None:
        """A request could not be handled: say so, where nothing has been said."""
        if not isinstance(error, EdgedError):
            self.repeats.clear()  # the next one is read anew
            log.error("a request of %s could not be handled", self.origin, exc_info=error)
            error = RuntimeFailureError("the request could not be handled; see the log")
        if self._is_open:
            self.fail(error)

    def fail(self, error: EdgedError) -> None:
        """Answer with what went wrong."""
        seconds = oip.retry_after_s(error)
        header = f"Retry-After: {seconds}\r\n" if seconds else ""
        self._refuse(oip.status_of(error), oip.text_of(error), header)

    def answer(self, buffers: list[Buffer]) -> None:
        """Write the answer, or the rest of it; the request is over."""
        self._is_open, self._generation = False, None
        self._on_answered(buffers, self._keeps_alive)
