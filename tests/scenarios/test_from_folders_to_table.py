"""Two folders, five commands, a table: as docs/quickstart.md says it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.pipelines import mini
from tests.pipelines.card.layouts import ids, photo, save
from tests.scenarios import project

PAGE = (mini.ROOT / "docs/quickstart.md").read_text(encoding="utf-8")


def commands() -> list[list[str]]:
    """The words of the page's five commands."""
    block = re.search(r"^```sh\n(python -m pipelines\.card.*?)^```", PAGE, re.M | re.S)[1]
    return [line.split("#")[0].split() for line in block.splitlines()]


@pytest.mark.slow
@pytest.mark.xdist_group("drivers")
def test_five_commands_lead_to_a_table(tmp_path):
    folder = tmp_path / "project"
    project.create(folder)
    for name in ("params/models/fcn_hrnet_tiny.yaml",):
        save(folder / name, (mini.ROOT / name).read_text())
    for seed in range(12):
        save(folder / f"photos/{seed:02d}.jpg", photo(seed).resize((64, 48)))
        save(folder / f"masks/{seed:02d}_mask.png", ids(seed, 2).repeat(2, 0).repeat(2, 1) * 255)
    lines = commands()
    assert len(lines) == 5
    for words in lines:
        if words[0] == "snakemake":
            words[:1] = ["python", "-m", "snakemake"]
        if "pipelines.new" in words:
            # From scratch, since a test asks no network; as short as can be.
            words += ["--model", "fcn_hrnet_tiny", "--minutes", "0.01", "--seeds", "1"]
        said = project.python(folder, *words[1:])
        if "pipelines.new" in words:
            assert "a step takes" in said
            assert "3 runs of 20 iterations" in said
            project.python(folder, "-m", "pipelines.check", "--study", "mine")
    table = (folder / "results/mine/report/table.md").read_text()
    assert "SAR without pull" in table
    assert Path(folder / "work/cards/mine.png").is_file()
