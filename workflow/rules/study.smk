# What needs all runs of the study.


rule compare:
    input:
        [run.output("train", "receipt.json") for run in STUDY.runs],
        [run.output("evaluate", "receipt.json") for run in STUDY.runs],
    output:
        STUDY.outputs("compare"),
    params:
        study=STUDY.parameters_hash("compare"),
    shell:
        "python -m pipelines.compare --study {STUDY.path}"


rule report:
    input:
        STUDY.output("compare", "receipt.json"),
    output:
        STUDY.outputs("report"),
    params:
        study=STUDY.parameters_hash("report"),
    shell:
        "python -m pipelines.report --study {STUDY.path}"
