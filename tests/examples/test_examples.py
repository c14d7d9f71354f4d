"""The examples run as they are, learn, and end with the bare model's weights."""

import importlib
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
SCRIPTS = {
    path.stem for path in EXAMPLES.glob("*.py") if "__main__" in path.read_text(encoding="utf-8")
}


@pytest.fixture
def example(tmp_path, monkeypatch):
    """Imports an example as `python examples/NAME.py` finds its neighbours."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(EXAMPLES))
    before = set(sys.modules)
    yield importlib.import_module
    for name in {"toy", *SCRIPTS} & (set(sys.modules) - before):
        del sys.modules[name]


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_an_example_learns_with_anchors(example, name, capsys):
    done = example(name).main()
    regularizer = done["regularizer"]
    assert done["accuracy"] > 0.7  # One class for all would be a quarter.
    assert bool(regularizer.initialized) and regularizer.semantic_anchors.abs().max() > 0
    # The semantic anchors follow what is embedded now, and are not it.
    assert 0 < float(regularizer.lag.max()) < 1
    assert not [key for key in done["state"] if "regularizer" in key]
    assert f"mean accuracy {done['accuracy']:.3f}" in capsys.readouterr().out
    assert not [path for path in Path.cwd().iterdir() if path.name != "lightning_logs"]


def test_lightning_logs_the_terms(example):
    logged = example("lightning_module").main(steps=2)["logged"]
    assert {"loss_aux_ce", "loss_p2a", "min_confidence", "gate"} <= set(logged)


@pytest.mark.parametrize("page", ["README.md", "docs/methods.md"])
def test_the_pages_lead_to_the_examples(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    named = set(re.findall(r"\]\((?:\.\./)?examples/(\w+)\.py\)", text))
    assert named == SCRIPTS if page.startswith("docs") else "](examples" in text
