"""One network for one task. The resumable state lies under state/, keyed by a digest, and is not declared:
Snakemake deletes declared outputs before it runs a rule again."""


rule train:
    input:
        paths.prepared_index(root),
    output:
        model=paths.model(root, "{task}", "{network}"),
        history=paths.history(root, "{task}", "{network}"),
    log:
        paths.log(root, "train-{task}-{network}"),
    benchmark:
        paths.benchmark(root, "train-{task}-{network}")
    # Before what can run beside it: then trainings share the machine with each other alone, each with the same.
    priority: 1
    threads: study.train.threads
    resources:
        **TRAINING,
        mem_mb=more(8000),
        runtime=lambda wildcards: training_minutes(study.budget(wildcards.task)),
    params:
        reads=reads_of("train", "task", "network"),
    shell:
        medwvae(
            "train",
            "--task {wildcards.task} --network {wildcards.network} --threads {threads}",
            launcher=LAUNCHER,
        )
