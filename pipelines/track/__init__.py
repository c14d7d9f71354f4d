"""The MLflow view of the local files.

`run_view` and `study_view` say what it should show and `owner` whose it is, `mlflow_store` and
`registry` bring a store there, `sync` does it for a study, `push` and `live` have it done in a
process of its own (`worker`) at the end of a stage and during a training, which `running.progress`
reads.
"""
