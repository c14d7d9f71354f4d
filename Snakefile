"""One study from raw data to report: `snakemake --cores all [--config study=NAME]`."""

import os
import re
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import min_version

min_version("9.0")

# The commands import `pipelines` and `sar` from the checkout that holds this file.
sys.path.insert(0, workflow.basedir)

from pipelines.base.errors import PipelineError
from pipelines.drivers.code import code_hash
from pipelines.drivers.snakemake_config import named_study
from pipelines.running.finished import to_make, without_weights
from pipelines.running.ownership import check_owner
from pipelines.running.sharing import most_runs_per_gpu
from pipelines.study import Study

if {"{", "}"} & set(workflow.basedir):
    raise WorkflowError(
        f"{workflow.basedir}: Snakemake takes braces in the folder's name for placeholders; "
        "rename the folder"
    )
try:
    STUDY = Study.load(named_study(config))
    check_owner(STUDY)
except PipelineError as error:
    raise WorkflowError(str(error))

# The commands run under the interpreter that runs Snakemake, whether or not its folder is on PATH.
# In the environment, since a prefix of the shell would replace Snakemake's `set -euo pipefail`.
# Short stages do not all push to MLflow: the end of the study sends everything.
os.environ.update(
    PATH=os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()]),
    SAR_PUSH_EVERY="60",
)
shell.executable("bash")

# Runs that share a GPU of this machine take a part of it each: `--resources gpu=4` stays four GPUs.
# On a cluster a job has GPUs of its own.
if workflow.is_main_process and workflow.local_exec and "gpu" in workflow.global_resources:
    workflow.register_resource(
        "gpu", most_runs_per_gpu(STUDY.file) * workflow.global_resources["gpu"].value
    )


# What `snakemake --report FILE.html` begins with.
report: "workflow/report/study.rst"


# A run is looked up by name, not matched: an alternation of 1,000 names takes seconds. One that
# `restore` brought back is a source: no rule makes it, whatever is newer than it is.
RESTORED = "|".join(re.escape(run.name) for run in STUDY.runs if without_weights(run))


wildcard_constraints:
    dataset="|".join(STUDY.datasets),
    model="|".join(STUDY.models),
    run=(f"(?!(?:{RESTORED})/)" if RESTORED else "") + "[^/]+/[^/]+/[^/]+/seed[0-9]+",


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/runs.smk"
include: "workflow/rules/study.smk"


rule all:
    default_target: True
    input:
        results,


onstart:
    shell("python -m pipelines.check --study {STUDY.reference:q}")
    shell("python -m pipelines.track --study {STUDY.reference:q} --init || true")


onsuccess:
    shell("python -m pipelines.track --study {STUDY.reference:q} || true")


onerror:
    shell("python -m pipelines.report --study {STUDY.reference:q} --partial || true")
    shell("python -m pipelines.track --study {STUDY.reference:q} || true")
