"""The test volumes of a problem (a task, or one of its settings), restored by one method."""


def model_of(wildcards):
    """What a method restores with: weights, those of a network for its task; a classical method needs none."""
    return stages.weights_of(study, wildcards.problem, wildcards.method)


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
        runtime=more(240),
        gpu=lambda wildcards: int(
            bool(model_of(wildcards)) and study.train.accelerator != "cpu"
        ),
    params:
        reads=reads_of("restore", "problem", "method"),
    shell:
        medwvae(
            "restore",
            "--task {wildcards.problem} --method {wildcards.method} --threads {threads}",
        )
