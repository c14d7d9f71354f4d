# Raw and prepared data: once a data set, whichever study asks for it.


def card_parameters(stage):
    def of_data_set(wildcards):
        return STUDY.datasets[wildcards.dataset].parameters_hash(stage)

    return of_data_set


def fetched(wildcards):
    return STUDY.datasets[wildcards.dataset].fetched


rule fetch:
    output:
        STUDY.outputs("fetch"),
    params:
        card=card_parameters("fetch"),
    shell:
        "python -m pipelines.fetch --study {STUDY.path} --dataset {wildcards.dataset}"


rule prepare:
    input:
        fetched,
    output:
        STUDY.outputs("prepare"),
    params:
        card=card_parameters("prepare"),
    shell:
        "python -m pipelines.prepare --study {STUDY.path} --dataset {wildcards.dataset}"
