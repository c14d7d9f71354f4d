# What needs all runs of the study.


rule compare:
    input:
        [run.output("train", "receipt.json") for run in STUDY.runs],
        [run.output("evaluate", "receipt.json") for run in STUDY.runs],
    output:
        STUDY.outputs("compare"),
    log:
        STUDY.log("compare"),
    conda:
        "../envs/semantic-anchors.yaml"
    params:
        study=STUDY.path.as_posix(),
        parameters=STUDY.parameters_hash("compare"),
    shell:
        "python -m pipelines.compare --study {params.study} 2>&1 | tee {log}"


rule report:
    input:
        STUDY.output("compare", "receipt.json"),
    output:
        STUDY.outputs("report"),
    log:
        STUDY.log("report"),
    conda:
        "../envs/semantic-anchors.yaml"
    params:
        study=STUDY.path.as_posix(),
        parameters=STUDY.parameters_hash("report"),
    shell:
        "python -m pipelines.report --study {params.study} 2>&1 | tee {log}"
