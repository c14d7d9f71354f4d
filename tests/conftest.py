"""Before any test is collected, and around each."""

import importlib.util
import logging
import os
from contextlib import contextmanager

import pytest
import torch

if importlib.util.find_spec("triton") is not None and not torch.cuda.is_available():
    # Triton decides when it is imported whether it compiles or interprets, and other libraries
    # import it too: without a GPU its kernels are tested by the interpreter.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        import triton  # noqa: F401

# As many as a worker has cores of its own: sums come out in one order on every machine.
torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="module")
def _a_module_of_its_own():
    """What a fixture of a module sets for its process ends with the module."""
    with _restored():
        yield


@pytest.fixture(autouse=True)
def _a_process_of_its_own():
    """A process is one command: what it sets for its process ends with its test."""
    with _restored():
        yield


@contextmanager
def _restored():
    environment, disabled = dict(os.environ), logging.root.manager.disable
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    logging.disable(disabled)
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]
    os.environ.update(environment)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    """With several processes, deal slow tests first: none is left with one at the end.

    Refuse a pytest-xdist that deals the tests of a group to several processes. It marks them by the
    end of their names; with a pytest that it does not know, none is marked.
    """
    if not getattr(config.option, "loadgroup", False):
        return
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    for item in items:
        if item.get_closest_marker("xdist_group") and "@" not in item.nodeid:
            raise pytest.UsageError(
                f"pytest {pytest.__version__} and pytest-xdist keep no groups together: install "
                "what requirements-dev.lock names"
            )
