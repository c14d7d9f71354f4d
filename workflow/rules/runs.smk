# One training and one evaluation a run. Receipts stand for the large files behind them.


def prepared(wildcards):
    return STUDY.run(wildcards.run).dataset.receipt


def trained(wildcards):
    return STUDY.run(wildcards.run).output("train", "receipt.json")


def run_parameters(stage):
    def of_run(wildcards):
        return STUDY.run(wildcards.run).parameters_hash(stage)

    return of_run


rule train:
    input:
        prepared,
    output:
        STUDY.outputs("train"),
    params:
        recipe=run_parameters("train"),
    threads: STUDY.file.threads
    shell:
        "python -m pipelines.train --study {STUDY.path} --run {wildcards.run}"


rule evaluate:
    input:
        prepared,
        trained,
    output:
        STUDY.outputs("evaluate"),
    params:
        recipe=run_parameters("evaluate"),
    threads: STUDY.file.threads
    shell:
        "python -m pipelines.evaluate --study {STUDY.path} --run {wildcards.run}"
