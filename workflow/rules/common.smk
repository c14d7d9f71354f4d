# What the rules ask of the study, by wildcard.


def card_parameters(stage):
    def of_data_set(wildcards):
        return STUDY.datasets[wildcards.dataset].parameters_hash(stage)

    return of_data_set


def fetched(wildcards):
    return STUDY.datasets[wildcards.dataset].fetched


def prepared(wildcards):
    return STUDY.run(wildcards.run).dataset.receipt


def trained(wildcards):
    return STUDY.run(wildcards.run).output("train", "receipt.json")


def run_parameters(stage):
    def of_run(wildcards):
        return STUDY.run(wildcards.run).parameters_hash(stage)

    return of_run
