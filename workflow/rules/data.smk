# Raw and prepared data: once a data set, whichever study asks for it.


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
    shell:
        "python -m pipelines.prepare --dataset {wildcards.dataset} 2>&1 | tee {log}"
