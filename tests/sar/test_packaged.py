"""Where the installed mmsegmentation keeps its configs."""

import subprocess
import sys

import pytest

from sar import packaged
from sar.errors import SarError


def test_the_configs_are_found_without_importing_mmsegmentation():
    program = (
        "import sys; from sar.packaged import mmseg_configs; "
        "assert (mmseg_configs() / '_base_/models/fcn_hr18.py').is_file(); "
        "assert 'mmseg' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_without_mmsegmentation_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(packaged, "find_spec", lambda name: None)
    with pytest.raises(SarError, match="expected onedl-mmsegmentation"):
        packaged.mmseg_configs()


def test_mmsegmentation_is_registered_without_a_word():
    program = (
        "from sar.packaged import register_mmseg; register_mmseg(); "
        "from mmseg.registry import DATASETS, TRANSFORMS; "
        "assert DATASETS.get('CityscapesDataset') and TRANSFORMS.get('PackSegInputs')"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    assert done.stdout == b""
