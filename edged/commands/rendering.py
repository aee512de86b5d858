"""Documents as text for a terminal: no colours, fit for a log and a serial line.

Decides wording and columns only. Unknown figures read ``-``, never 0.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from msgspec import to_builtins

from edged.commands.rolling import in_short
from edged.device.cpu import read_cpu
from edged.device.jetson import read_jetson
from edged.device.nvidia import read_nvidia
from edged.runtimes.placed import placed_words
from edged.runtimes.registry import all_offers
from edged.specs import size_words

_WIDTH = 110
"""Longer texts are wrapped."""
_ALWAYS = ("received", "answered", "dead_lettered", "in_flight")
"""Of a binding's figures, those that are shown though they are 0."""
SET_ASIDE = "the files were set aside"
"""So begins what the daemon says of files that were in effect and are no longer."""


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Columns as wide as their widest cell; numbers to the right."""
    lines = [list(head), *([_cell(cell) for cell in row] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    right = [all(_is_number(line[i]) for line in lines[1:]) for i in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    )


def counted(number: int, noun: str) -> str:
    """A number with its noun: 1 request, 2 requests."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def desired_line(desired: dict[str, Any]) -> str:
    """Which document over MQTT is in effect, and what became of the last one."""
    version, last = desired["version"], desired["desired"]
    line = f"configuration over MQTT: {f'version {version}' if version else 'none'} in effect"
    if last is not None:
        line += f"; version {last['version']} {last['state']}"
        line += f": {last['problems'][0]}" if last["problems"] else ""
    return line


def _files_words(config: dict[str, Any]) -> str:
    if config["applied"]:
        return ""
    return f" (the files are {'set aside' if _is_aside(config) else 'REFUSED'}, see below)"


def _is_aside(config: dict[str, Any]) -> bool:
    return any(line.startswith(SET_ASIDE) for line in config["problems"])


def render_status(document: dict[str, Any]) -> str:
    """``edged status``."""
    config = document["config"]
    state = "ready" if document["ready"] else "NOT READY"
    lines = [
        (
            f"edged {document['edged']} on {document['node']}: {state}, up "
            f"{_seconds(document['uptime_s'])}, {_size(document['rss_bytes'])} resident"
        ),
        f"generation {document['generation']}, configuration {config['digest'][:12]}"
        + _files_words(config)
        + _window_words(config.get("window_left_s")),
        _socket_line(document["socket"]),
    ]
    lines += (document.get("trust") or {}).get("warnings", [])
    if document.get("http"):
        lines.append(f"Open Inference Protocol on {document['http']}")
    if document.get("metrics"):
        lines.append(f"figures and health on {document['metrics']}")
    lines += [*_store_lines(document.get("store") or {})]
    lines += _inbox_lines(document.get("inbox") or {})
    if document["mqtt"]:
        lines.append(_mqtt_line(document["mqtt"]))
    if document.get("desired"):
        lines.append(desired_line(document["desired"]))
    if document.get("memory"):
        lines += _memory_lines(document["memory"], document["releases"])
    lines += _worker_lines(document.get("workers", ()))
    answering = {(one["name"], one["serving"]) for one in document["models"]}
    lines += ["", _releases(document["releases"], answering)]
    lines += [
        f"{r['model']} release {r['release']}: {r['runtime']} computes floats in {r['computes_in']}"
        for r in document["releases"]
        if r.get("computes_in")
    ]
    lines += _placed_lines(document["releases"])
    lines += [
        f"{r['model']} release {r['release']} in {r['precision']}: {r['choice']}"
        for r in document["releases"]
        if r.get("choice")
    ]
    for line in in_short(document.get("rollouts") or ()):
        lines += textwrap.wrap(line, _WIDTH, subsequent_indent="    ")
    lines += [*_engine_lines(document.get("engines") or {}), *_pull_lines(document)]
    lines += [
        f"{r['model']} release {r['release']} is not in memory: {r['reason']}"
        for r in document["releases"]
        if r["state"] == "asleep"
    ]
    if document["mqtt"] and document["mqtt"].get("bindings"):
        lines += ["", binding_table(document["mqtt"]["bindings"])]
    lines += _trouble_lines(document)
    return "\n".join(lines)


def _trouble_lines(document: dict[str, Any]) -> list[str]:
    """What is not as it should be."""
    lines: list[str] = []
    problems = document["config"]["problems"]
    if document.get("not_ready"):
        lines += ["", "not ready, because of:"]
        lines += [f"  {name}: {reason}" for name, reason in document["not_ready"].items()]
    if document["degradations"]:
        ages = document.get("degraded_for_s", {})
        lines += ["", "degraded:"]
        lines += [
            f"  {key}{_age(ages.get(key))}: {_without(problems, text) if key == 'config' else text}"
            for key, text in document["degradations"].items()
        ]
    if problems:
        is_aside = _is_aside(document["config"])
        lines += ["", f"the last change was {'set aside' if is_aside else 'refused'}:"]
        lines += [f"  {line}" for line in problems]
    return lines


def _without(problems: list[str], text: str) -> str:
    """A sentence that ends with a problem that is listed below."""
    end = f": {problems[0]}" if problems else ""
    return f"{text[: -len(end)]}, see below" if end and text.endswith(end) else text


def _window_words(left_s: float | None) -> str:
    return "" if left_s is None else f", confirmed in {left_s:.0f} s if it serves well"


def render_ready(document: dict[str, Any]) -> str:
    """``edged status --ready``: one line."""
    reasons = "; ".join(f"{name}: {why}" for name, why in document["not_ready"].items())
    return "ready" if document["ready"] else f"NOT READY: {reasons}"


def render_models(document: list[dict[str, Any]]) -> str:
    """``edged models``."""
    blocks = []
    for model in document:
        serving = model["serving"]
        head = f"{model['name']}: " + (f"release {serving} serves" if serving else "NOT READY")
        if model["fallback"]:
            head += " (the last good one)"
        if model["aliases"]:
            aliases = ", ".join(f"{name} = {number}" for name, number in model["aliases"].items())
            head += f"; aliases: {aliases}"
        lines = [head]
        lines += [f"  in   {_tensor(entry)}" for entry in model.get("inputs", [])]
        lines += [f"  out  {_tensor(entry)}" for entry in model.get("outputs", [])]
        for release in model["releases"]:
            reason = f": {release['reason']}" if release["reason"] else ""
            lines.append(
                f"  release {release['release']} ({release['version']}) {release['state']}{reason}"
            )
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) or "no models are configured"


def device_document() -> dict[str, Any]:
    """What ``edged device`` knows of this machine."""
    jetson = read_jetson()
    return {
        "cpu": asdict(read_cpu()),
        "nvidia": asdict(read_nvidia()),
        "jetson": asdict(jetson) if jetson is not None else None,
        "runtimes": [to_builtins(offer) for offer in all_offers()],
    }


def render_device(document: dict[str, Any]) -> str:
    """``edged device``."""
    cpu = document["cpu"]
    frequency = cpu["frequency_hz"]
    lines = [
        f"cpu      {_cell(cpu['model'])}, {cpu['architecture']}, {_cell(cpu['cores'])} cores"
        + (f", {frequency / 1e9:.2f} GHz" if frequency else "")
        + (f", {', '.join(cpu['features'])}" if cpu["features"] else ""),
        (
            f"memory   {_size(cpu['memory_available_bytes'])} available of "
            f"{_size(cpu['memory_total_bytes'])}, swap {_size(cpu['swap_total_bytes'])}"
        ),
    ]
    lines += [
        f"heat     {zone['name']} {zone['temp_celsius']:.1f} C"
        for zone in cpu["zones"]
        if zone["temp_celsius"] is not None
    ]
    nvidia = document["nvidia"]
    if nvidia["problem"]:
        lines.append(f"nvidia   {nvidia['problem']}")
    for gpu in nvidia["gpus"]:
        used, total = _size(gpu["memory_used_bytes"]), _size(gpu["memory_total_bytes"])
        lines.append(
            f"gpu {gpu['index']}    {_cell(gpu['name'])}, {used} used of {total}, "
            f"driver {_cell(nvidia['driver'])}"
        )
    jetson = document["jetson"]
    if jetson is not None:
        lines.append(
            f"jetson   {_cell(jetson['model'])}, L4T {_cell(jetson['l4t'])}, mode "
            f"{_cell(jetson['power_mode'])}"
        )
    for info in document["runtimes"]:
        what = info["problem"] or f"{info['version']} on {', '.join(info['devices'])}"
        if info.get("kinds"):
            what += f", takes {', '.join(info['kinds'])}"
        if info.get("package") and not info["problem"]:
            what += f", from {info['package']}"
        what += f"; {info['note']}" if info.get("note") else ""
        lines += textwrap.wrap(
            f"runtime  {info['name']}: {what}", _WIDTH, subsequent_indent=9 * " "
        )
    return "\n".join(lines)


def _releases(releases: list[dict[str, Any]], answering: set[tuple[str, int]]) -> str:
    """Of several that are ready, one answers whoever names none."""
    head = ("model", "release", "state", "runtime", "requests", "failed", "rows", "batches",
            "run us", "inline")  # fmt: skip
    rows = [
        (
            r["model"], r["release"],
            r["state"] + (", serves" if (r["model"], r["release"]) in answering else ""),
            r["runtime"], r["requests"], r["failures"], r["rows"], r["batches"],
            r["typical_run_us"] if r["runtime"] else None,
            "yes" if r["inline"] else "no",
        )
        for r in releases
    ]  # fmt: skip
    return table(head, rows) if rows else "no models are configured"


def binding_table(bindings: dict[str, dict[str, Any]]) -> str:
    """What became of each binding's messages; what happened to none at all is left out."""
    known = dict.fromkeys(key for counters in bindings.values() for key in counters)
    columns = [
        *(key for key in _ALWAYS if key in known),
        *(
            key
            for key in known
            if key not in _ALWAYS and any(found.get(key) for found in bindings.values())
        ),
    ]
    rows = [[name, *(found.get(column) for column in columns)] for name, found in bindings.items()]
    return table(["binding", *(column.replace("_", " ") for column in columns)], rows)


def _socket_line(socket: dict[str, Any]) -> str:
    connections = counted(socket["connections"], "connection")
    return f"socket {socket['path']}: {connections}, {counted(socket['requests'], 'request')}"


def _store_lines(store: dict[str, Any]) -> Iterator[str]:
    if store:
        cap = f" of {_size(store['max_bytes'])}" if store["max_bytes"] is not None else ""
        gone = f", {store['collected']} collected since the start" if store["collected"] else ""
        releases = counted(store["releases"], "release")
        yield f"store: {releases}, {_size(store['bytes'])}{cap}{gone}"
        if cap and store["needed_bytes"] > store["max_bytes"]:
            needed = _size(store["needed_bytes"])
            yield f"  {needed} must stay, more than store.max_bytes: nothing new is taken"


def _inbox_lines(inbox: dict[str, Any]) -> Iterator[str]:
    if not inbox:
        return
    yield (
        f"inbox {inbox['folder']}: {inbox['installed']} installed, {inbox['refused']} refused, "
        f"{inbox['waiting']} waiting"
    )
    if inbox["last"]:
        yield f"  the last: {inbox['last']}"


def _mqtt_line(mqtt: dict[str, Any]) -> str:
    error = f" ({mqtt['last_error']})" if mqtt.get("last_error") else ""
    return f"mqtt {mqtt.get('broker', '')}: {mqtt.get('state', '-')}{error}"


def _placed_lines(releases: list[dict[str, Any]]) -> Iterator[str]:
    for r in releases:
        if (nodes := r.get("nodes")) and (words := placed_words(**nodes)):
            yield f"{r['model']} release {r['release']} on {r['runtime']}: {words}"


def _worker_lines(workers: Iterable[dict[str, Any]]) -> Iterator[str]:
    for one in workers:
        models = ", ".join(share["model"] for share in one["releases"])
        size = _size(one["private_bytes"]) if one["private_bytes"] is not None else "unknown"
        yield f"worker {one['pid']}: {models} ({size})"


def _pull_lines(document: dict[str, Any]) -> list[str]:
    return [
        f"{p['model']} from {p['pull']}: {p['state']}, {_good_words(p)}asked again in "
        f"{_seconds(p['next_in_s'])}"
        for p in document.get("pulls") or ()
    ]


def _good_words(pull: dict[str, Any]) -> str:
    """Since when a source that fails has not answered."""
    if pull["state"] != "failed":
        return ""
    ago_s = pull.get("good_ago_s")
    return "never answered, " if ago_s is None else f"last answered {_seconds(ago_s)} ago, "


def _engine_lines(engines: dict[str, Any]) -> Iterator[str]:
    if engines.get("problem"):
        yield f"no engine is built here: {engines['problem']}"
    for one in engines.get("builds", ()):
        more = [
            one["step"],
            f"waits for {one['waits_for']}" if one["waits_for"] else "",
            _seconds(one["seconds"]) if one["step"] else "",
            one["reason"] if one["phase"] != "serving" else "",
            f"again in {_seconds(one['retry_in_s'])}" if one["retry_in_s"] is not None else "",
        ]
        told = f" ({'; '.join(filter(None, more))})" if any(more) else ""
        what = f"{one['model']} release {one['release']} in {one['precision']}"
        yield f"engine for {what}: {one['phase']}{told}"


def _memory_lines(
    memory: dict[str, dict[str, int]], releases: list[dict[str, Any]]
) -> Iterator[str]:
    for device, one in memory.items():
        promised, budget = _size(one["promised_bytes"]), _size(one["budget_bytes"])
        yield f"memory for models on {device}: {promised} of {budget} promised"
    found = [r["memory"] for r in releases if "memory" in r]
    if evictions := sum(one["evictions"] for one in found):
        inside = sum(one["resident"] for one in found)
        yield f"{inside} of {len(found)} releases are in memory, {evictions} evictions so far"


def _tensor(entry: dict[str, Any]) -> str:
    return f"{entry['name']} {entry['dtype']}[{','.join(map(str, entry['shape']))}]"


def _cell(value: object) -> str:
    return "-" if value is None or value == "" else str(value)


def _is_number(text: str) -> bool:
    return text == "-" or text.replace(".", "", 1).isdigit()


def _size(size_bytes: int | None) -> str:
    return "-" if size_bytes is None else size_words(size_bytes)


def _age(seconds: float | None) -> str:
    return "" if seconds is None else f" (for {_seconds(seconds)})"


def _seconds(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
