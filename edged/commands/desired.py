"""``edged desired sign | show | remove``: the configuration that comes over MQTT.

Decides their words and what they print; each imports what it needs when it runs. Signing is for
whoever looks after many devices, on a machine that has the key, and that no device is.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from edged import decoding
from edged.commands.disk import refused
from edged.commands.words import (
    add_config,
    add_json,
    add_socket,
    add_state_dir,
    add_verb,
    add_verbs,
)
from edged.errors import ApplyError, DisconnectedError, EdgedError, InvalidRequestError

_LONGEST = 1 << 20


def add_desired(commands: Any) -> None:
    """Add the commands; ``commands`` is what ``add_subparsers`` gave."""
    text = "Sign, show or remove configuration that comes over MQTT."
    verbs = add_verbs(commands, "desired", text)

    sign = add_verb(verbs, "sign", _sign, "Make the message for <base>/config/desired, on stdout.")
    sign.add_argument("document", help="a YAML file as in conf.d; - for stdin, empty for none")
    sign.add_argument("--version", type=int, required=True, help="higher than any used before")
    sign.add_argument("--node", required=True, help="the device's name; * for any")
    sign.add_argument(
        "--against", required=True, metavar="GENERATION|DIGEST",
        help="what is in effect there: see <base>/config/reported, or edged status",
    )  # fmt: skip
    sign.add_argument(
        "--key", type=Path, action="append", default=[],
        help="a private key (edged-convert keygen); may be repeated",
    )  # fmt: skip

    show = add_verb(
        verbs, "show", _show, "Show what came, what is in effect, and what was refused."
    )
    add_json(show)

    remove = add_verb(
        verbs, "remove", _remove,
        "Have no document beside the files; its version and those before are not taken again.",
    )  # fmt: skip
    for sub in (show, remove):
        add_config(sub)
        add_socket(sub)
        add_state_dir(sub)


def _sign(options: argparse.Namespace) -> int:
    import msgspec  # noqa: PLC0415

    from edged.generation.envelope import Envelope, seal  # noqa: PLC0415
    from edged.store.signing import Signer  # noqa: PLC0415

    text = _read(options.document)
    said: str = options.against
    # A generation has at most 8 digits, a digest at least 12.
    against = int(said) if said.isdecimal() and len(said) <= 8 else said.lower()
    words = {
        "version": options.version, "node": options.node, "against": against, "document": text,
    }  # fmt: skip
    try:
        envelope = decoding.convert(words, Envelope)
    except msgspec.ValidationError as exc:
        raise InvalidRequestError(str(exc)) from None
    _check(text)
    message = seal(envelope, [Signer.from_file(path) for path in options.key])
    print(message.decode())
    return 0


def _read(name: str) -> str:
    try:
        if name == "-":
            data = sys.stdin.buffer.read(_LONGEST + 1)
        else:
            with Path(name).open("rb") as file:
                data = file.read(_LONGEST + 1)
        if len(data) > _LONGEST:
            raise InvalidRequestError(f"{name}: has more than {_LONGEST} bytes")
        return data.decode()
    except UnicodeDecodeError as exc:
        raise InvalidRequestError(f"{name}: is not UTF-8 ({exc.reason})") from None


def _check(text: str) -> None:
    """Refuse here what every device would refuse."""
    from edged.config.desired import document_problems  # noqa: PLC0415
    from edged.config.load import ConfigProblemsError, read_document  # noqa: PLC0415

    if not text.strip():
        return
    root, problems = read_document("document", text.encode())
    if root is not None:
        problems = [*problems, *document_problems(root)]
    if problems:
        raise ConfigProblemsError(problems)


def _show(options: argparse.Namespace) -> int:
    from edged.client import Client  # noqa: PLC0415
    from edged.commands.rendering import desired_line  # noqa: PLC0415

    try:
        with Client(options.socket) as client:
            document = client.status()["desired"]
    except DisconnectedError as exc:
        # What came lies on disk, also where no daemon runs to say what is in effect.
        document = _kept(options)
        print(f"{exc.message}\nWhat the state directory says:", file=sys.stderr)
    if options.json:
        print(json.dumps(document, indent=2))
    elif document is None:
        print("no configuration comes over MQTT: there is no `mqtt.desired`")
    else:
        print(desired_line(document))
        last = document["desired"]
        for line in [*(last["problems"][1:] if last else ()), *document["left_out"]]:
            print(f"  {line}")
        if document["refused"]:
            print(f"refused since: {document['refused']['problems'][0]}")
    return 0


def _kept(options: argparse.Namespace) -> dict[str, Any]:
    """As the daemon says it, of what is on disk."""
    from edged.config.documents import FOLDER, REMOVED  # noqa: PLC0415
    from edged.generation.documents import Documents  # noqa: PLC0415
    from edged.generation.record import find_state_dir  # noqa: PLC0415

    folder = (options.state_dir or find_state_dir(options.config)) / FOLDER
    try:
        state = Documents(folder).state()
        is_removed = (folder / REMOVED).exists()
    except OSError as exc:
        raise ApplyError(f"{folder} cannot be read: {refused(exc)}") from exc
    last = state.verdict
    return {
        "version": None if is_removed else state.current or None,
        "desired": None
        if last is None
        else {
            "version": last.version,
            "state": last.what,
            "at": last.at,
            "problems": list(last.problems),
        },
        "left_out": [],
        "refused": None,
    }


def _remove(options: argparse.Namespace) -> int:
    from edged.config.documents import FOLDER  # noqa: PLC0415
    from edged.generation.documents import Documents  # noqa: PLC0415
    from edged.generation.record import find_state_dir  # noqa: PLC0415

    state_dir = options.state_dir or find_state_dir(options.config)
    try:
        is_there = Documents(state_dir / FOLDER).order_removal()
    except OSError as exc:
        raise ApplyError(f"{state_dir} cannot be written: {refused(exc)}") from exc
    if not is_there:
        print("there is no document beside the files")
        return 0
    print(f"removed; {_tell(options.socket)}")
    return 0


def _tell(socket: str | None) -> str:
    """Have a daemon that runs look at its files."""
    from edged.client import Client  # noqa: PLC0415
    from edged.commands.generations import signal_daemon  # noqa: PLC0415

    try:
        with Client(socket) as client:
            signal_daemon(client.call("status", part="config")["pid"])
    except DisconnectedError:
        return "the daemon does not answer; it starts without it"
    except (EdgedError, OSError) as exc:
        return f"the daemon could not be told ({exc}): edged apply"
    return "what comes of it: edged status"
