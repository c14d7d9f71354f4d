# What the rules ask of the study, by wildcard, and how they run a command.


def logged(command):
    """`command` with all that it prints in the log, whose last line says why it failed."""
    return f"{command} > {{log:q}} 2>&1 || python -m pipelines.running.failure $? {{log:q}}"


def declared(stage):
    """The outputs of a stage as Snakemake declares them."""
    paths = STUDY.outputs(stage)
    return [directory(path[:-1]) if path.endswith("/") else path for path in paths]


def results(wildcards):
    """All results of the study. What was made, changed or removed by hand is made again: Snakemake
    knows its own work alone, and that by time."""
    workflow.dag.forcefiles.update(
        made.receipt.as_posix() for made, _ in to_make(STUDY) if made.receipt.is_file()
    )
    return [*STUDY.input_receipts("compare"), STUDY.output("report", "receipt.json")]


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
    """Inputs of a stage of a data set: receipts and a user's own files."""

    def inputs(wildcards):
        data = STUDY.datasets[wildcards.dataset]
        return [*data.input_receipts(stage), *data.local_files(stage)]

    return inputs


def of_run(stage):
    """Inputs of a stage of a run: receipts."""

    def inputs(wildcards):
        return STUDY.run(wildcards.run).input_receipts(stage)

    return inputs


def run_code(stage):
    """The hash of the code that decides a stage of a run: a parameter, since an edited comment
    changes a file's time and no result."""

    def of_run(wildcards):
        return code_hash(stage, STUDY.run(wildcards.run))

    return of_run


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
