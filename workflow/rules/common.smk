# What the rules ask of the study, by wildcard.


def declared(stage):
    """The outputs of a stage as Snakemake declares them."""
    paths = STUDY.outputs(stage)
    return [directory(path[:-1]) if path.endswith("/") else path for path in paths]


SHOWN = {"table.csv": "comparison", "per_class.csv": "per_class", "claims.csv": "claims"}
"""Tables that `snakemake --report` shows, with their captions in workflow/report."""


def declared_report():
    """The outputs of report, with those that `snakemake --report` shows."""
    outputs = []
    for path in declared("report"):
        name = path.rpartition("/")[2]
        if name in SHOWN:
            caption = f"../report/{SHOWN[name]}.rst"
            path = report(path, caption=caption, category="Tables", labels={"table": name})
        elif name == "figures":
            path = report(
                path,
                patterns=["{figure}.svg"],
                caption="../report/figure.rst",
                category="Figures",
                labels={"figure": "{figure}"},
            )
        outputs.append(path)
    return outputs


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
