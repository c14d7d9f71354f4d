"""What the paper claims besides mIoU, asked of the runs of a study: one question a module.

Each module measures runs: pure functions of what `analysis.npz`, `metrics.json` and `info.json`
hold. The sections of the report tell the answers. The populations are those of `compare.inference`:
intervals speak of seeds, for these data, this model and this recipe.
"""
