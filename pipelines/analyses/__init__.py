"""What the paper claims besides mIoU, asked of the runs of a study: one question a module.

Each module measures runs (pure functions of what `analysis.npz`, `metrics.json` and `info.json`
hold) and tells the answer as a section of the report. `pipelines.analyse` is the stage that writes
the numbers, `findings` tells all answers. The populations are those of `pipelines.inference`:
intervals speak of seeds, for these data, this model and this recipe.
"""
