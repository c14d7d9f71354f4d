"""One study from raw data to report: `snakemake --cores all [--config study=NAME]`."""

import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import min_version

min_version("9.0")

# The commands import `pipelines` and `sar` from the checkout that holds this file.
sys.path.insert(0, workflow.basedir)

from pipelines.base.errors import PipelineError
from pipelines.drivers.code import code_hash
from pipelines.study import Study

try:
    STUDY = Study.load(str(config.get("study", "default")))
except PipelineError as error:
    raise WorkflowError(str(error))

# The commands run under the interpreter that runs Snakemake, whether or not its folder is on PATH.
shell.prefix(f"export PATH={Path(sys.executable).parent}:$PATH; ")


# What `snakemake --report FILE.html` begins with.
report: "workflow/report/study.rst"


wildcard_constraints:
    dataset="|".join(STUDY.datasets),
    model="|".join(STUDY.models),
    run="|".join(run.name for run in STUDY.runs),


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/runs.smk"
include: "workflow/rules/study.smk"


rule all:
    default_target: True
    input:
        STUDY.output("report", "receipt.json"),


onstart:
    shell("python -m pipelines.check --study {STUDY.reference}")
    shell("python -m pipelines.track --study {STUDY.reference} --init || true")


onsuccess:
    shell("python -m pipelines.track --study {STUDY.reference} || true")


onerror:
    shell("python -m pipelines.report --study {STUDY.reference} --partial || true")
    shell("python -m pipelines.track --study {STUDY.reference} || true")
