"""What ``--help`` says below the options: examples, and what exit statuses mean.

Words only. docs/operations.md has the same table of statuses (a test compares them), and every
example is read by the command line itself in a test.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping

STATUSES: Mapping[int, str] = {
    0: "done; of a question: yes",
    2: "the command line is not understood",
    65: "what was asked is not well-formed, or not what the model takes",
    66: "there is no such model, release, generation, tag or file",
    69: "the daemon or a source does not answer, or is not ready",
    70: "a model or edged itself failed; the log says more",
    74: "a file or the terminal could not be read or written",
    75: "not now: too much is asked, or it took too long; try again",
    77: "not allowed",
    78: "refused as it is: a configuration, a bundle, a trust document, a rollout that is over",
    130: "interrupted from the keyboard",
}
EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "run": ("edged run --config edged.yaml",),
    "check": (
        "edged check --config /etc/edged.new",
        "edged check --schema > edged.schema.json",
        "edged check --explain | less",
    ),
    "diff": ("edged diff --config /etc/edged.new",),
    "explain": ("edged explain infer digits --user camera",),
    "apply": ("edged apply --wait", "edged apply --wait --confirmed --timeout 60"),
    "rollback": ("edged rollback", "edged rollback 12"),
    "history": ("edged history",),
    "status": ("edged status", "edged status --json | jq .rollouts", "edged status --ready"),
    "infer": (
        "edged infer digits @digit.png",
        "edged infer wine 'features=[[13.2, 1.78, 2.14]]'",
        "edged infer digits@2 pixels=@rows.npy --raw",
    ),
    "load": ("edged load digits",),
    "unload": ("edged unload digits",),
    "build": ("edged build gate --precision float16",),
    "quarantine": ("edged quarantine", "edged quarantine --lift digits"),
    "rollout": (
        "edged rollout status", "edged rollout promote digits", "edged rollout abort digits",
    ),
    "bundle install": (
        "edged bundle install --wait digits-2.edgb",
        "edged bundle install --wait --older digits-1.edgb",
    ),
    "bundle pull": (
        "edged bundle pull --wait factory/digits:stable", "edged bundle pull --model digits",
    ),
    "bundle remove": ("edged bundle remove digits@1",),
    "bundle floor": (
        "edged bundle floor", "edged bundle floor digits@3", "edged bundle floor digits@0",
    ),
    "bundle gc": ("edged bundle gc --dry-run", "edged bundle gc"),
    "trust apply": ("edged trust apply --wait site-2.trust",),
    "mqtt status": ("edged mqtt status --json",),
    "mqtt record": ("edged mqtt record capture.jsonl --count 100 --topic 'plant/+/image'",),
    "bindings test": ("edged bindings test edged.yaml --record capture.jsonl",),
    "desired sign": (
        "edged desired sign gate.yaml --version 8 --node gate-7 --against 12 --key fleet.key",
    ),
    "desired show": ("edged desired show --json",),
}  # fmt: skip
OWN: Mapping[str, Mapping[int, str]] = {
    "check": {0: "it is good", 78: "it is not; every problem is said"},
    "diff": {0: "a reload would take it", 78: "it would not, or nothing was applied yet"},
    "explain": {0: "it is allowed", 77: "it is not"},
    "apply": {
        0: "asked; with --wait: in effect", 69: "no daemon answers", 75: "still at it",
        78: "refused; every problem is said",
    },
    "rollback": {
        0: "in effect, or left for the next start where no daemon answers",
        66: "there is no such generation", 78: "not possible",
    },
    "rollout": {
        0: "done", 66: "there is no such rollout", 69: "the canary cannot answer, or no daemon",
        78: "it is over already, or has no canary",
    },
    "status": {0: "ready", 69: "not ready, or no daemon answers"},
    "bundle install": {
        0: "it is there; with --wait: taken", 78: "refused; with --wait also by the daemon",
    },
    "bundle list": {0: "all are good", 78: "one is not"},
    "trust apply": {
        0: "kept; with --wait: in effect", 69: "kept, and no daemon answers",
        78: "refused; with --wait also: kept, and the daemon cannot go by it yet",
    },
    "mqtt status": {0: "messages flow", 69: "they do not"},
}  # fmt: skip
METAVARS: Mapping[str, str] = {
    "config": "PATH", "socket": "PATH", "state_dir": "FOLDER", "file": "FILE", "record": "FILE",
    "key": "FILE", "timeout": "SECONDS", "seconds": "SECONDS", "count": "N", "max_bytes": "BYTES",
    "node": "NAME", "user": "NAME", "certificate": "NAME", "service_user": "NAME", "version": "N",
    "model": "MODEL", "document": "FILE", "verb": "VERB",
}  # fmt: skip
"""What a value is called, the same everywhere; choices and ``N``s of a verb's own are let be."""


class _Formatter(argparse.HelpFormatter):
    """Keeps the lines of what has several."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if "\n" in text:
            return "\n".join(f"{indent}{line}" for line in text.splitlines())
        return super()._fill_text(text, width, indent)


def add_manual(parser: argparse.ArgumentParser, name: str = "") -> None:
    """Give a parser and all its verbs what they say below their options.

    Args:
        parser: complete.
        name: its verbs, parted by a space; empty for the program.
    """
    parser.formatter_class = _Formatter
    parser.epilog = _epilog(name)
    for action in parser._actions:  # noqa: SLF001 - argparse has no other way to its verbs
        if action.nargs != 0 and action.metavar is None and action.choices is None:
            action.metavar = METAVARS.get(action.dest)
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for verb, sub in action.choices.items():
                add_manual(sub, f"{name} {verb}".strip())


def _epilog(name: str) -> str:
    if not name:
        return "\n".join(["exit status:", *_lines(STATUSES)])
    lines = []
    if name in EXAMPLES:
        lines += ["examples:", *(f"  {one}" for one in EXAMPLES[name]), ""]
    if name in OWN:
        lines += ["exit status:", *_lines(OWN[name]), "  others: edged --help"]
    else:
        lines.append("exit status: see edged --help")
    return "\n".join(lines)


def _lines(statuses: Mapping[int, str]) -> list[str]:
    return [f"  {status:<4} {meaning}" for status, meaning in statuses.items()]
