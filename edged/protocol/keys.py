"""The key of a request: a text that keeps it on one side of a rollout. Pure."""

from __future__ import annotations

from typing import TypeAlias

from edged.errors import InvalidRequestError

KEY_CAP = 256
"""Characters of a key."""
Key: TypeAlias = "str | int | None"
"""As a caller gives it."""


def check_key(key: str) -> None:
    """Refuse what keeps nobody on a side.

    Raises:
        InvalidRequestError: it is empty or too long.
    """
    if not 0 < len(key) <= KEY_CAP:
        raise InvalidRequestError(
            f"a key of {len(key)} characters: expected 1 to {KEY_CAP}, or none at all"
        )


def key_text(key: Key) -> str | None:
    """The key of a request as it is sent.

    Raises:
        InvalidRequestError: it is neither a text nor a number, or empty or too long.
    """
    if key is None:
        return None
    if isinstance(key, bool) or not isinstance(key, (str, int)):
        raise InvalidRequestError(
            f"key is a {type(key).__name__}; expected a text or a number that keeps the request on "
            'one side of a rollout. An input named "key" goes into the mapping before the others'
        )
    text = str(key)
    check_key(text)
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise InvalidRequestError(f"a key that is no text: {exc}") from exc
    return text


def read_key(words: bytes | memoryview) -> str:
    """A key as it was sent.

    Raises:
        InvalidRequestError: it is too long, or no text.
    """
    if len(words) > 4 * KEY_CAP:
        raise InvalidRequestError(
            f"a key of {len(words)} bytes: expected a text of 1 to {KEY_CAP} characters"
        )
    try:
        key = bytes(words).decode()
    except UnicodeDecodeError as exc:
        raise InvalidRequestError(f"a key that is not UTF-8: {exc}") from exc
    check_key(key)
    return key
