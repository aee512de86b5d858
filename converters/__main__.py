"""``python -m converters`` is ``edged-convert``."""

import sys

from converters.cli import main

sys.exit(main())
