# What needs all runs of the study.


rule compare:
    input:
        STUDY.input_receipts("compare"),
    output:
        declared("compare"),
    log:
        STUDY.log("compare"),
    conda:
        "../envs/semantic-anchors.yaml"
    params:
        study=STUDY.reference,
        parameters=STUDY.parameters_hash("compare"),
        code=code_hash("compare"),
    shell:
        logged("python -m pipelines.compare --study {params.study:q}")


rule analyse:
    input:
        STUDY.input_receipts("analyse"),
    output:
        declared("analyse"),
    log:
        STUDY.log("analyse"),
    conda:
        "../envs/semantic-anchors.yaml"
    params:
        study=STUDY.reference,
        parameters=STUDY.parameters_hash("analyse"),
        code=code_hash("analyse"),
    shell:
        logged("python -m pipelines.analyse --study {params.study:q}")


rule report:
    input:
        STUDY.input_receipts("report"),
    output:
        declared_report(),
    log:
        STUDY.log("report"),
    conda:
        "../envs/semantic-anchors.yaml"
    params:
        study=STUDY.reference,
        parameters=STUDY.parameters_hash("report"),
        code=code_hash("report"),
    shell:
        logged("python -m pipelines.report --study {params.study:q}")
