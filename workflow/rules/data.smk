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
        "python -m pipelines.fetch --dataset {wildcards.dataset} 2>&1 | tee {log}"


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
        "python -m pipelines.prepare --dataset {wildcards.dataset} 2>&1 | tee {log}"


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
        "python -m pipelines.fetch --weights {wildcards.model} 2>&1 | tee {log}"
