# Raw and prepared data, and published weights: once a data set or model, whichever study asks.


rule fetch:
    input:
        of_data_set("fetch"),
    output:
        declared("fetch"),
    log:
        STUDY.log("fetch"),
    conda:
        "../envs/semantic-anchors.yaml"
    params:
        card=card_parameters("fetch"),
        code=code_hash("fetch"),
    shell:
        logged("python -m pipelines.fetch --dataset {wildcards.dataset:q}")


rule prepare:
    input:
        of_data_set("prepare"),
    output:
        declared("prepare"),
    log:
        STUDY.log("prepare"),
    conda:
        "../envs/semantic-anchors.yaml"
    params:
        card=card_parameters("prepare"),
        code=code_hash("prepare"),
    shell:
        logged("python -m pipelines.prepare --dataset {wildcards.dataset:q}")


rule weights:
    output:
        declared("weights"),
    log:
        STUDY.log("weights"),
    conda:
        "../envs/semantic-anchors.yaml"
    params:
        entry=weights_parameters,
        code=code_hash("weights"),
    shell:
        logged("python -m pipelines.fetch --weights {wildcards.model:q}")
