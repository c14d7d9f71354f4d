"""Say in one sentence why an installation cannot work. Runs before anything is installed.

It has to start on any Python 3, so it uses the standard library and old syntax only.
"""

import importlib
import shutil
import sys

SUPPORTED = ((3, 11), (3, 12))
NEEDED_GB = 5
LIBRARIES = ("torch", "cv2", "mmseg", "mlflow", "snakemake")


def before():
    """The reason not to install, or None."""
    if sys.version_info[:2] not in SUPPORTED:
        return (
            "Python 3.11 or 3.12 is needed, %s is Python %d.%d; "
            "name another one: make setup PYTHON=python3.12"
            % (sys.executable, sys.version_info[0], sys.version_info[1])
        )
    try:
        importlib.import_module("ensurepip")
    except ImportError:
        return "this Python makes no virtual environments; on Debian: apt-get install python3-venv"
    free = shutil.disk_usage(".").free / 1e9
    if free < NEEDED_GB:
        return "%.1f GB are free on this disk, the installation needs %d GB" % (free, NEEDED_GB)
    return None


def after():
    """The reason why what was installed does not work, or None."""
    for name in LIBRARIES:
        try:
            importlib.import_module(name)
        except ImportError as error:
            hint = ""
            if "libGL" in str(error) or "libgthread" in str(error):
                hint = "; on Debian: apt-get install libgl1 libglib2.0-0"
            return "%s was installed but cannot be imported: %s%s" % (name, error, hint)
    return None


if __name__ == "__main__":
    reason = after() if "--installed" in sys.argv[1:] else before()
    if reason:
        sys.exit("error: " + reason)
