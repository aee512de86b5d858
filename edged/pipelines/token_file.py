"""A tokeniser's data file through the package ``tokenizers``: a text to its numbers.

The one room of that package. Decides what of the file is taken (everything but how much it pads and
by how much cut pieces overlap) and when it is refused. The package is compiled Rust: where it
panics, what it raises is no ``Exception``, and nobody here may let that through to a thread's end.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

from edged.errors import FieldError, RunError

_MOST_BYTES = 64 << 20
"""The largest vocabulary in use, of 262,144 pieces, has 33 MB as this file."""
_LONGEST_WORD = 256
"""Characters. Looking up the pieces of one word costs the cube of this; files in use say 100."""


class Encoded(NamedTuple):
    """One text as numbers: what the model takes, and which of two texts each is of."""

    ids: list[int]
    types: list[int]


class TokenFile:
    """A file that was read, set to cut at one length.

    Args:
        path: the file.
        length: most tokens of a row, special ones too; None takes the file's.
        is_pair: whether two texts make a row.

    Raises:
        FieldError: at ``tokens`` or a field of it: the package is missing, the file is not of its
            kind or cannot be used, or the length is none.
    """

    def __init__(self, path: Path, length: int | None, is_pair: bool) -> None:
        self._tokenizer = tokenizer = _opened(path)
        cut = tokenizer.truncation or {}
        found = length or cut.get("max_length")
        if not found:
            raise FieldError("tokens.length", f"is missing, and {path.name} does not say one")
        special = tokenizer.num_special_tokens_to_add(is_pair)
        if found <= special:
            text = f"{found} leaves no place for a text: {path.name} itself adds {special}"
            raise FieldError("tokens.length", text)
        self.length: int = found
        padding = tokenizer.padding or {}
        self.pad_id: int = padding.get("pad_id", _pad_id(tokenizer))
        self.pad_type: int = padding.get("pad_type_id", 0)
        self.pads_left: bool = padding.get("direction") == "left"
        strategy = cut.get("strategy", "longest_first") if is_pair else "longest_first"
        direction = cut.get("direction", "right")
        tokenizer.no_padding()
        # No stride: with one, each text is kept once for every few of its own tokens.
        tokenizer.enable_truncation(found, stride=0, strategy=strategy, direction=direction)
        try:
            self.encode("a 1", "b" if is_pair else None, is_special=True)
        except (RunError, ValueError) as exc:
            raise FieldError("tokens.file", f"{path} is of no use: {exc}") from exc

    def encode(self, text: str, pair: str | None, *, is_special: bool) -> Encoded:
        """One row, on any thread.

        Raises:
            ValueError: the file has no number for something in the text.
            RunError: the package failed on it.
        """
        given = text if pair is None else (text, pair)
        try:
            (made,) = self._tokenizer.encode_batch_fast([given], add_special_tokens=is_special)
        except Exception as exc:  # the package raises nothing more exact
            raise ValueError(f"cannot be made into tokens: {exc}"[:512]) from exc
        except BaseException as exc:
            raise _unless_ours(exc) from exc
        return Encoded(made.ids, made.type_ids)


_open: WeakValueDictionary[tuple[object, ...], TokenFile] = WeakValueDictionary()
_lock = Lock()


def open_token_file(path: Path, length: int | None, is_pair: bool) -> TokenFile:
    """A TokenFile; the same one as long as somebody uses it and the file has not changed.

    A pipeline is planned again when a model's release moves, which must not read 30 MB again.

    Raises:
        FieldError: as TokenFile.
    """
    try:
        status = path.stat()
    except OSError as exc:
        raise FieldError("tokens.file", f"cannot read {path}: {exc.strerror}") from exc
    if not stat.S_ISREG(status.st_mode):
        raise FieldError("tokens.file", f"{path} is no file")
    key = (
        str(path), status.st_ino, status.st_size, status.st_mtime_ns, length, is_pair,
    )  # fmt: skip
    with _lock:
        found = _open.get(key)
        if found is None:
            found = _open[key] = TokenFile(path, length, is_pair)
        return found


def _opened(path: Path) -> Any:
    # Else each text is handed to a pool of the package's own threads, beside all of ours.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        from tokenizers import Tokenizer  # noqa: PLC0415 - extra [text]
    except ImportError as exc:
        text = 'needs the package tokenizers, which is not here: pip install "edged[text]"'
        raise FieldError("tokens", text) from exc
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as exc:
        raise FieldError("tokens.file", f"cannot read {path}: {exc.strerror}") from exc
    if len(data) > _MOST_BYTES:
        raise FieldError("tokens.file", f"{path} has more than {_MOST_BYTES} bytes")
    try:
        tokenizer = Tokenizer.from_buffer(data)
    except Exception as exc:  # the package raises nothing more exact
        text = f"{path} is no tokenizer.json: {str(exc)[:200]}"
        raise FieldError("tokens.file", text) from exc
    except BaseException as exc:
        raise FieldError("tokens.file", f"{path}: {_unless_ours(exc)}") from exc
    longest = getattr(tokenizer.model, "max_input_chars_per_word", 0)
    if longest > _LONGEST_WORD:
        text = f"{path} takes words of {longest} characters; the limit is {_LONGEST_WORD}"
        raise FieldError("tokens.file", text)
    if getattr(tokenizer.model, "dropout", None):
        tokenizer.model.dropout = None  # for training: the same text would differ each time
    return tokenizer


def _pad_id(tokenizer: Any) -> int:
    """For a file that pads nothing; the mask says that these are none, whatever they are."""
    found = (tokenizer.token_to_id(name) for name in ("[PAD]", "<pad>"))
    return next((number for number in found if number is not None), 0)


def _unless_ours(exc: BaseException) -> RunError:
    """What is told of a panic; an end of the process is none and goes on."""
    if isinstance(exc, KeyboardInterrupt | SystemExit | GeneratorExit):
        raise exc
    return RunError(f"the package tokenizers gave up: {str(exc)[:200]}")
