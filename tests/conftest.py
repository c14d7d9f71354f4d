"""Before any test is collected."""

import importlib.util

import pytest
import torch

if importlib.util.find_spec("triton") is not None and not torch.cuda.is_available():
    # Triton decides when it is imported whether it compiles or interprets, and other libraries
    # import it too: without a GPU its kernels are tested by the interpreter.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        import triton  # noqa: F401
