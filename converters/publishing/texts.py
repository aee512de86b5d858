"""What stands in the files of a container's build folder. Words only; reads and writes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

USER = 10001
"""Of the daemon in the container: above what distributions give to people and services."""
SOCKET = "/run/edged/edged.sock"


@dataclass(frozen=True)
class Names:
    """What the texts speak of.

    Args:
        model: its name, of letters, digits, points, dashes and underscores.
        release: its number.
        bundle: the bundle's file name.
        wheel: the daemon's.
        keys: the file names of the trusted keys.
        threshold: how many of them must have signed.
        python: as ``3.11``.
        platform: the only one that it is for; None for the builder's own.
        target: the device, for people.
        codec: of messages over MQTT.
    """

    model: str
    release: int
    bundle: str
    wheel: str
    keys: tuple[str, ...]
    threshold: int
    python: str
    platform: str | None
    target: str
    codec: str

    @property
    def tag(self) -> str:
        """A name for the image; engines take lower case only."""
        return f"edged-{self.model.lower().strip('._-')}:{self.release}"


def containerfile(names: Names) -> str:
    """How the image is built."""
    return f"""\
# {names.model} release {names.release} on edged, for {names.target}. Runs on the CPU.
FROM docker.io/library/python:{names.python}-slim-bookworm

RUN groupadd --system --gid {USER} edged \\
 && useradd --system --uid {USER} --gid edged --no-create-home --home-dir /var/lib/edged edged \\
 && install -d -o edged -g edged -m 0750 /run/edged /var/lib/edged

# First what changes rarely. The lock is whole, so nothing is resolved here.
COPY requirements.lock {names.wheel} /opt/install/
RUN pip install --no-cache-dir --no-deps --only-binary :all: -r /opt/install/requirements.lock \\
 && pip install --no-cache-dir --no-deps --no-index /opt/install/{names.wheel} \\
 && pip check

COPY etc/ /etc/edged/

ENV EDGED_SOCKET={SOCKET} PYTHONUNBUFFERED=1
USER {USER}:{USER}
VOLUME ["/run/edged", "/var/lib/edged"]
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD edged status --ready || exit 1
ENTRYPOINT ["edged"]
CMD ["run", "--config", "/etc/edged/edged.yaml"]
"""


def configuration(names: Names) -> str:
    """``edged.yaml``: serves the model on the Unix socket; over MQTT once a broker is named."""
    keys = ", ".join(f"keys/{name}" for name in names.keys)
    return f"""\
# Serves {names.model} release {names.release}. Every field: edged check --explain
state_dir: /var/lib/edged
listen:
  socket: {{path: {SOCKET}}}
trust:
  keys: [{keys}]
  threshold: {names.threshold}
models:
  "{names.model}": {{bundle: bundles/{names.bundle}}}

# For MQTT, take the # away and name the broker.
#mqtt: {{host: broker.example}}
#bindings:
#  - name: requests
#    from: devices/{{device}}/{names.model}/in
#    to: devices/{{device}}/{names.model}/out
#    model: "{names.model}"
#    codec: {names.codec}
"""


def requirements(versions: Mapping[str, str], names: Names) -> str:
    """The lock: every package, of all depths, at one version."""
    lines = "".join(f"{name}=={version}\n" for name, version in versions.items())
    return f"""\
# What edged needs, at the versions that were installed where this folder was made: Python
# {names.python}. Without hashes, which differ by processor: no index was asked. Where there is one,
# pip-compile --generate-hashes adds them.
{lines}"""


def readme(names: Names) -> str:
    """The two commands, and what the container needs."""
    platform = f" --platform {names.platform}" if names.platform else ""
    tag, count = names.tag, len(names.keys)
    volume = tag.partition(":")[0]
    volumes = f"-v {volume}-run:/run/edged -v {volume}-state:/var/lib/edged"
    return f"""\
# {names.model} release {names.release}

A container that serves the bundle `{names.bundle}` with edged, for {names.target}.
It runs on the CPU.

```console
$ podman build{platform} --format docker -t {tag} .
$ podman run{platform} --rm --read-only --cap-drop ALL --tmpfs /tmp {volumes} {tag}
```

With docker: `docker build{platform} -f Containerfile -t {tag} .`, and the same `run`.
(`--format docker` is for podman, whose own format has no HEALTHCHECK.)

* Applications call it over `edged.sock` in the volume `{volume}-run`; they need the group {USER}.
* For MQTT, name the broker in `etc/edged.yaml` and build again, or mount a file over
  `/etc/edged/edged.yaml`. A broker's password is a file: `password: {{file: /run/secrets/broker}}`.
* It trusts the {count} key(s) in `etc/keys`, of which {names.threshold} must have signed a bundle.
* `requirements.lock` holds exact versions, without hashes.
* For a GPU, take a base image and a lock that bring it; see docs/gpu.md of edged.
"""
