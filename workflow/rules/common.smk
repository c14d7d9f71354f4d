# What the rules ask of the study, by wildcard.


def declared(stage):
    """The outputs of a stage as Snakemake declares them."""
    paths = STUDY.outputs(stage)
    return [directory(path[:-1]) if path.endswith("/") else path for path in paths]


def of_data_set(stage):
    """Inputs of a stage of a data set: receipts, a user's own files, and code."""

    def inputs(wildcards):
        data = STUDY.datasets[wildcards.dataset]
        return [*data.input_receipts(stage), *data.local_files(stage), *sources(stage)]

    return inputs


def of_run(stage):
    """Inputs of a stage of a run: receipts and code."""

    def inputs(wildcards):
        run = STUDY.run(wildcards.run)
        return [*run.input_receipts(stage), *sources(stage, run)]

    return inputs


def sources(stage, run=None):
    return [file for path in code(stage, run) for file in source_files(path)]


def card_parameters(stage):
    def of_card(wildcards):
        return STUDY.datasets[wildcards.dataset].parameters_hash(stage)

    return of_card


def weights_parameters(wildcards):
    return STUDY.weights[wildcards.model].parameters_hash()


def run_parameters(stage):
    def of_run(wildcards):
        return STUDY.run(wildcards.run).parameters_hash(stage)

    return of_run
