"""From a study file to its runs, their parameters, and the place of every file.

Nobody else expands a study or builds a path from parts. All paths are relative to the project
root, which is the working directory of every command.
"""

from pipelines.study.data import Dataset, Weights
from pipelines.study.parameters import params_file, params_names, read_params
from pipelines.study.places import (
    CHECKSUMS,
    DATA,
    DATASET_STAGES,
    DESCRIPTION,
    DOWNLOADS,
    ENTRY_OF_TRAINING,
    PARAMS,
    REFERENCE,
    REPORTS,
    RESULTS,
    RUN_STAGES,
    SEEN_IN_TRAINING,
    STUDY_STAGES,
    SUMMARY,
    VIEWS,
    WEIGHTS_DECIDED_BY,
    WEIGHTS_SHOWN,
    WORK,
)
from pipelines.study.study import Claimed, Run, Study, published_names

__all__ = [
    "CHECKSUMS",
    "DATA",
    "DATASET_STAGES",
    "DESCRIPTION",
    "DOWNLOADS",
    "ENTRY_OF_TRAINING",
    "PARAMS",
    "REFERENCE",
    "REPORTS",
    "RESULTS",
    "RUN_STAGES",
    "SEEN_IN_TRAINING",
    "STUDY_STAGES",
    "SUMMARY",
    "VIEWS",
    "WEIGHTS_DECIDED_BY",
    "WEIGHTS_SHOWN",
    "WORK",
    "Claimed",
    "Dataset",
    "Run",
    "Study",
    "Weights",
    "params_file",
    "params_names",
    "published_names",
    "read_params",
]
