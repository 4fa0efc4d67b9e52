"""The test volumes, restored by one method."""


def model_of(wildcards):
    """A network's weights; a classical method needs none."""
    return (
        paths.model(root, wildcards.task, wildcards.method)
        if wildcards.method in NETWORKS
        else []
    )


rule restore:
    input:
        index=paths.prepared_index(root),
        model=model_of,
    output:
        paths.record(root, "{task}", "{method}"),
    log:
        paths.log(root, "restore-{task}-{method}"),
    benchmark:
        paths.benchmark(root, "restore-{task}-{method}")
    resources:
        mem_mb=4000,
        runtime=240,
        gpu=lambda wildcards: int(
            wildcards.method in NETWORKS and study.train.accelerator != "cpu"
        ),
    params:
        reads=reads_of("restore", "method"),
    shell:
        medwvae(
            "restore",
            "--task {wildcards.task} --method {wildcards.method} --threads {threads}",
        )
