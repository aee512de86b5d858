"""The floor of each model: the release below which none is accepted any more.

Decides what the floors are and keeps them twice, each copy replaced whole: the higher number wins,
so that a lost or damaged copy lowers nothing. Where none of the copies can be read, or both are
gone that were there, what serves goes on and nothing else is taken, until an operator sets them
anew. A floor is raised by what a bundle says of itself, once that bundle proved good; only an
operator lowers one. Somebody who is root, or writes the disk in another machine, lowers it too: no
file can help that.

    <state>/floor.json      <state>/floor-2.json      {"check": CRC-32, "floors": {"<model>": N}}
"""

from __future__ import annotations

import contextlib
import logging
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec

from edged import decoding
from edged.errors import ApplyError, EdgedError, IncompatibleError
from edged.manifest import Manifest
from edged.store.serving import serving_digests, serving_releases
from edged.store.slots import check_model
from edged.store.stored import open_release
from edged.store.twice import Twice

log = logging.getLogger("edged.store")

_NAME = "floor"
_FILE_CAP_BYTES = 4 << 20
_Number = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]


class BelowFloorError(IncompatibleError):
    """A release that is not to be used any more."""


class FloorsLostError(ApplyError):
    """Which releases are not to be used any more is not known here, so none but what serves is."""


class _Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    check: int
    floors: dict[str, _Number]


class Floors:
    """The floors of one state directory, read anew at each call; of any process.

    Args:
        state_dir: is there when something is set.
    """

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._files = Twice(state_dir, _NAME, _FILE_CAP_BYTES)

    def all(self) -> Mapping[str, int]:
        """By model, the lowest release that is accepted; none of a model that has no floor.

        Raises:
            FloorsLostError: there are some, and all copies are damaged or gone.
        """
        copies = {name: _parse(data) for name, data in self._files.read()}
        whole = [one for one in copies.values() if not isinstance(one, str)]
        if not whole and (copies or self._files.was_written()):
            raise FloorsLostError(
                f"{' and '.join(self._files.copies)} in {self._state_dir} are "
                f"{'damaged' if copies else 'gone'}, so which "
                "releases are not to be used any more is not known: what serves goes on, and no "
                "other is taken; set them anew by what serves: edged bundle floor --from-serving"
            )
        for name, flaw in copies.items():
            if isinstance(flaw, str):
                log.error("%s is damaged; the other copy counts: %s", name, flaw)
        found: dict[str, int] = {}
        for floors in whole:
            for model, number in floors.items():
                found[model] = max(number, found.get(model, 0))
        return found

    def check(self, manifest: Manifest, digest: str) -> None:
        """Refuse a release below its model's floor; see ``FloorsNow.check``."""
        self.now().check(manifest, digest)

    def now(self) -> FloorsNow:
        """As they are now, for who asks of hundreds of releases; raises nothing until asked."""
        try:
            return FloorsNow(self._state_dir, self.all())
        except ApplyError as exc:
            return FloorsNow(self._state_dir, exc)

    def rise(self, wanted: Mapping[str, int]) -> dict[str, int]:
        """Raise floors; one that is higher stays.

        Returns:
            Those that rose.

        Raises:
            FloorsLostError: there are some to raise, and what they are is not known.
            OSError: the disk does not take them; each is the old or the new.
        """
        try:
            before = self.all()
        except FloorsLostError:
            if not wanted:
                return {}  # nothing is asked of them; that they are lost is told elsewhere
            raise
        if all(number <= before.get(model, 0) for model, number in wanted.items()):
            if before:
                self._files.note()
            return {}
        with self._files.locked():
            now = dict(self.all())
            risen = {model: n for model, n in wanted.items() if n > now.get(model, 0)}
            self._write({**now, **risen})
        return risen

    def set(self, model: str, release: int) -> None:
        """An operator's word, also downwards; 0 for no floor.

        Raises:
            BundleError: that is no model's name.
            FloorsLostError: those of the other models would be gone.
            OSError: the disk does not take it; it is the old or the new.
        """
        check_model(model)
        with self._files.locked():
            floors = {**self.all(), model: release}
            self._write({name: number for name, number in floors.items() if number})

    def set_by_serving(self, said: Mapping[str, int] | None = None) -> None:
        """An operator's word where they are lost: none before the release that serves is accepted.

        Args:
            said: the floors of some models, in the place of what serves; 0 for none.

        Raises:
            ApplyError: what serves a model is damaged in the store, and ``said`` has no word of it.
            BundleError: that is no model's name.
            OSError: the disk does not take it, or does not say what serves.
        """
        said = said or {}
        for model in said:
            check_model(model)
        with self._files.locked():
            serving = {
                stored.manifest.name: stored.manifest.release
                for stored in serving_releases(self._state_dir)
            }
            unknown = serving_digests(self._state_dir).keys() - serving.keys() - said.keys()
            if unknown:
                raise ApplyError(
                    f"the release that serves {', '.join(sorted(unknown))} is damaged in the store "
                    f"of {self._state_dir}, so its number is not known, and no floor was set: say "
                    "it: edged bundle floor --from-serving "
                    + " ".join(f"{model}@RELEASE" for model in sorted(unknown))
                    + " (0: none)"
                )
            with contextlib.suppress(FloorsLostError):
                for model, release in self.all().items():
                    serving[model] = max(release, serving.get(model, 0))
            floors = {**serving, **said}
            self._write({model: number for model, number in floors.items() if number})

    def _write(self, floors: dict[str, int]) -> None:
        self._files.write(msgspec.json.encode(_Kept(_check(floors), floors)))


@dataclass(frozen=True, slots=True)
class FloorsNow:
    """The floors of one state directory as they were at one moment.

    Args:
        state_dir: theirs.
        found: by model; or why that is not known, which is no other's reason.
    """

    state_dir: Path
    found: Mapping[str, int] | ApplyError

    def check(self, manifest: Manifest, digest: str) -> None:
        """Refuse a release below its model's floor.

        Raises:
            BelowFloorError: it is below.
            FloorsLostError: that is not known, and another one serves.
            ApplyError: that cannot be known at the moment.
        """
        if isinstance(self.found, FloorsLostError):
            self._only_what_serves(manifest, digest, self.found)
            return
        if isinstance(self.found, ApplyError):
            raise self.found
        least = self.found.get(manifest.name, 0)
        if manifest.release < least:
            raise BelowFloorError(
                f"release {manifest.release} of {manifest.name} is below the floor of this device: "
                "a later release, the trust document or an operator said that none before "
                f"{least} is to be used any more; to use it all the same: edged bundle floor "
                f"{manifest.name}@{manifest.release}"
            )

    def _only_what_serves(self, manifest: Manifest, digest: str, exc: FloorsLostError) -> None:
        serving = serving_digests(self.state_dir).get(manifest.name)
        if serving == digest:
            return
        newest = 0
        with contextlib.suppress(EdgedError):
            if serving is not None:
                newest = open_release(self.state_dir / "store", serving).manifest.release
        if manifest.release < newest:
            raise BelowFloorError(exc.message)  # lies there from before
        raise exc


def _parse(data: bytes | None) -> Mapping[str, int] | str:
    """What a copy says, or what is wrong with it."""
    if data is None:
        return "it cannot be read"
    try:
        kept = decoding.decode(data, _Kept)
    except (ValueError, RecursionError, msgspec.MsgspecError) as exc:
        return str(exc)
    return kept.floors if kept.check == _check(kept.floors) else "its check does not fit"


def _check(floors: Mapping[str, int]) -> int:
    return zlib.crc32(msgspec.json.encode(dict(sorted(floors.items()))))
