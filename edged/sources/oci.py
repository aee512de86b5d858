"""A registry that speaks the OCI distribution protocol: from a name to the layer with the bundle.

Decides which layer is meant and holds every document against its digest. What is read: an image
that ``edged-convert publish`` made (one layer, tar and gzip, with the bundle in it), or an artefact
whose layer is the bundle itself. Source: the OCI distribution and image specifications 1.1, and the
token protocol of the distribution project.
"""

from __future__ import annotations

import hashlib
import platform
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from edged.errors import BundleError, DeniedError, DigestMismatchError
from edged.sources.address import Origin
from edged.sources.found import DIGEST, Found, check_size, parse_object
from edged.sources.partial import Wanted
from edged.sources.web import Web

BUNDLE_TYPE = "application/vnd.edged.bundle.v1"
_INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_PACKED = (
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
)
_DOCUMENT_CAP_BYTES = 4 << 20
"""What registries take as a manifest."""
_TOKEN_CAP_BYTES = 64 << 10
_MOST_LISTED = 1000
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}
_PARAMETER = re.compile(r'([a-z]+)="([^"\\]{0,2048})"', re.ASCII)
_TOKEN = re.compile(r"[!-~]{1,16384}", re.ASCII)


def find(web: Web, name: str, tag: str, digest: str, most: int) -> Found:
    """The layer with the bundle.

    Args:
        web: the registry.
        name: of the repository.
        tag: which image.
        digest: ``sha256:HEX`` of the image, which goes before the tag; may be empty.
        most: bytes of a bundle that may be fetched.

    Raises:
        EdgedError: there is none, it cannot be had, or it is not what its digest says.
    """
    meant, document = _document(web, name, digest or tag)
    top = meant
    if "manifests" in document:
        _, document = _document(web, name, _of_this_machine(document, name))
    layer, is_packed = _layer(document, name)
    match = DIGEST.fullmatch(str(layer.get("digest")))
    if match is None:
        raise BundleError(f"{name}: the layer's digest is no sha256")
    size = check_size(layer.get("size"), most, name)
    return Found(
        url=f"{web.url}/v2/{quote(name)}/blobs/sha256:{match[1]}",
        wanted=Wanted(size, match[1]),
        digest=top,
        is_packed=is_packed,
    )


def _document(web: Web, name: str, reference: str) -> tuple[str, dict[str, Any]]:
    """A manifest or index, and its digest."""
    url = f"{web.url}/v2/{quote(name)}/manifests/{reference}"
    answer = web.document(url, ", ".join((*_INDEXES, *_MANIFESTS)), _DOCUMENT_CAP_BYTES)
    digest = f"sha256:{hashlib.sha256(answer.data).hexdigest()}"
    stated = answer.headers.get("docker-content-digest", digest)
    wanted = reference if DIGEST.fullmatch(reference) else stated
    if wanted != digest:
        raise DigestMismatchError(
            f"{name}: asked for {wanted[:80]}, what came is {digest}; it was changed on its way"
        )
    return digest, parse_object(answer.data, name)


def _of_this_machine(index: dict[str, Any], name: str) -> str:
    """The digest of the manifest for this processor; of the only one where there is no choice."""
    listed = index.get("manifests")
    if not isinstance(listed, list) or not 0 < len(listed) <= _MOST_LISTED:
        raise BundleError(f"{name}: an index without images, or with too many")
    images = [one for one in listed if isinstance(one, dict) and one.get("mediaType") in _MANIFESTS]
    own = _ARCHITECTURES.get(platform.machine(), platform.machine())
    fitting = [
        one for one in images
        if isinstance(one.get("platform"), dict) and one["platform"].get("architecture") == own
    ]  # fmt: skip
    chosen = fitting or (images if len(images) == 1 else [])
    if not chosen or DIGEST.fullmatch(str(chosen[0].get("digest"))) is None:
        raise BundleError(f"{name}: the index has no image for this processor ({own})")
    return str(chosen[0]["digest"])


def _layer(manifest: dict[str, Any], name: str) -> tuple[dict[str, Any], bool]:
    layers = manifest.get("layers")
    if not isinstance(layers, list) or not 0 < len(layers) <= _MOST_LISTED:
        raise BundleError(f"{name}: no image manifest with layers")
    known = [one for one in layers if isinstance(one, dict)]
    plain = [one for one in known if one.get("mediaType") == BUNDLE_TYPE]
    if len(plain) == 1:
        return plain[0], False
    notes = manifest.get("annotations")
    is_ours = isinstance(notes, dict) and "edged.bundle.file" in notes
    # What it was put on lies below: the bundle's layer is the last.
    if is_ours and known and known[-1].get("mediaType") in _PACKED:
        return known[-1], True
    raise BundleError(
        f"{name}: holds no bundle; expected an image of `edged-convert publish`, or one layer of "
        f"type {BUNDLE_TYPE}"
    )


@dataclass(slots=True)
class TokenDesk:
    """What a registry demands instead of a name and password: a token from a token server.

    Args:
        web: asks the registry, and the token server.
        login: header with name and password; empty for anonymous.
        server: origin that may be shown them, beside the registry's own.
    """

    web: Web
    login: str
    server: str = ""

    def meet(self, demand: str) -> str:
        """The header to log in with; empty where the demand is for something else.

        Raises:
            EdgedError: the token server is not one that the operator named, or gives none.
        """
        kind, _, rest = demand.partition(" ")
        if kind.lower() != "bearer":
            return ""
        asked = dict(_PARAMETER.findall(rest[:8192]))
        realm = asked.get("realm", "")
        self._check(Origin.of(realm))
        query = urlencode({key: asked[key] for key in ("service", "scope") if asked.get(key)})
        url = f"{realm}{'&' if '?' in realm else '?'}{query}"
        answer = Web(
            url=realm, authorization=self.login, ca=self.web.ca, timeout_s=self.web.timeout_s
        ).document(url, "application/json", _TOKEN_CAP_BYTES)
        given = parse_object(answer.data, "the token server's answer")
        token = given.get("token") or given.get("access_token")
        if not isinstance(token, str) or _TOKEN.fullmatch(token) is None:
            raise BundleError("the token server's answer has no token")
        return f"Bearer {token}"

    def _check(self, origin: Origin) -> None:
        known = {Origin.of(self.web.url)} | ({Origin.of(self.server)} if self.server else set())
        if origin not in known:
            raise DeniedError(
                f"the registry sends us to {origin.host} for a token; write token_server: "
                f"{origin.scheme}://{origin.host} if that is meant"
            )
