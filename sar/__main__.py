"""``python -m sar``, and the console script ``semantic-anchors``."""

from __future__ import annotations

import sys

from sar.cli import main

if __name__ == "__main__":
    sys.exit(main())
