# One training and one evaluation a run. Receipts stand for the large files behind them.


rule train:
    input:
        of_run("train"),
    output:
        declared("train"),
    log:
        STUDY.log("train"),
    conda:
        "../envs/semantic-anchors.yaml"
    threads: STUDY.run_threads
    resources:
        gpu=STUDY.run_gpus,
    params:
        study=STUDY.reference,
        recipe=run_parameters("train"),
        code=run_code("train"),
    shell:
        logged("python -m pipelines.train --study {params.study:q} --run {wildcards.run:q}")


rule evaluate:
    input:
        of_run("evaluate"),
    output:
        declared("evaluate"),
    log:
        STUDY.log("evaluate"),
    # Before further trainings: what is trained is soon counted, and a partial report has it.
    priority: 1
    conda:
        "../envs/semantic-anchors.yaml"
    threads: STUDY.run_threads
    resources:
        gpu=STUDY.run_gpus,
    params:
        study=STUDY.reference,
        recipe=run_parameters("evaluate"),
        code=run_code("evaluate"),
    shell:
        logged("python -m pipelines.evaluate --study {params.study:q} --run {wildcards.run:q}")
