"""The test volumes of a problem (a task, or one of its settings), restored by one method."""


def model_of(wildcards):
    """A network's weights, those of its task, here or in another run; a classical method needs none."""
    return (
        stages.weights_of(study, wildcards.problem, wildcards.method)
        if wildcards.method in NETWORKS
        else []
    )


rule restore:
    input:
        index=paths.prepared_index(root),
        model=model_of,
    output:
        paths.record(root, "{problem}", "{method}"),
    log:
        paths.log(root, "restore-{problem}-{method}"),
    benchmark:
        paths.benchmark(root, "restore-{problem}-{method}")
    resources:
        mem_mb=more(4000),
        runtime=240,
        gpu=lambda wildcards: int(
            wildcards.method in NETWORKS and study.train.accelerator != "cpu"
        ),
    params:
        reads=reads_of("restore", "problem", "method"),
    shell:
        medwvae(
            "restore",
            "--task {wildcards.problem} --method {wildcards.method} --threads {threads}",
        )
