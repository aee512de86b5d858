"""Where the zoo's packages lie: put there by ``.ci/venv VENV PYTHON zoo`` (or ``zoo-half``).

``python -m tests.zoo.place half|all`` lists the packages with their folders, a pair a line.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.zoo.entries import CHAINS, ENTRIES, UNREADABLE, folder_of

ZOO = Path(sys.prefix) / "share/edged-zoo"
OWN = ZOO / "own-code"
"""What the packages' own code imports beside NumPy and ONNX Runtime: OpenCV and the like."""


def find(package: str) -> Path | None:
    """The folder of ``name==version`` or ``name@version``; None where it is not installed."""
    path = ZOO / folder_of(package)
    if path.is_dir():
        return path
    demo = Path(sys.prefix) / "share/edged-demo"
    if package.startswith("rapidocr-onnxruntime==") and demo.is_dir():
        return demo  # the demo's pre-trained network is one of the zoo
    return None


def main(which: str) -> None:
    """Print each package that has to be fetched, and its folder's name."""
    packages = [entry.package for entry in ENTRIES if entry.half or which == "all"]
    packages += CHAINS
    if which == "all":
        packages += UNREADABLE
    for package in dict.fromkeys(packages):
        if which == "all" or not package.startswith("rapidocr-onnxruntime=="):  # the demo has it
            print(package, folder_of(package))


if __name__ == "__main__":
    main(sys.argv[1])
