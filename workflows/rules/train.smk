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
    threads: study.train.threads
    resources:
        mem_mb=8000,
        runtime=24 * 60,
        gpu=0 if study.train.accelerator == "cpu" else study.train.devices,
    params:
        reads=reads_of("train", "task", "network"),
    shell:
        medwvae(
            "train",
            "--task {wildcards.task} --network {wildcards.network} --threads {threads}",
        )
