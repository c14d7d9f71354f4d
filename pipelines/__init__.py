"""The experiment pipeline: studies, their stages, and the commands that run them."""

from importlib.util import find_spec

if find_spec("pydantic") is None or find_spec("mmseg") is None:
    # `sar` alone is installed: it needs neither.
    raise ImportError(
        "pipelines needs more than sar; expected, in a checkout: pip install -e '.[pipeline]'"
    )
