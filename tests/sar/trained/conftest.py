"""A tiny trained model, as tests of what is done with one need it."""

import pytest
from sar_cases import tiny_bundle


@pytest.fixture(scope="session")
def bundle():
    return tiny_bundle(source={"file": "made.pth", "sha256": "0"})
