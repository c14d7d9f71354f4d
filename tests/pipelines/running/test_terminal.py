"""Tables on terminals that lack a character."""

import os
import subprocess
import sys

import pytest

CODE = """
from pipelines.running.cli import guarded
guarded(lambda: print("51.0 \\u00b1 0.5 \\u2013 caf\\u00e9 \\u6f22"))
"""


@pytest.mark.parametrize(
    ("encoding", "line"),
    [
        ("utf-8", "51.0 \u00b1 0.5 \u2013 caf\u00e9 \u6f22"),
        ("latin-1", "51.0 \u00b1 0.5 - caf\u00e9 ?"),
        ("ascii", "51.0 +- 0.5 - caf? ?"),
    ],
)
def test_what_it_cannot_show_is_printed_plainly(encoding, line):
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode(encoding) == f"{line}\n"
