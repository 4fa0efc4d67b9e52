"""Scores per subject, one table a problem (a task, or one of its settings)."""


rule evaluate:
    input:
        lambda wildcards: [
            paths.record(root, wildcards.problem, m)
            for m in stages.methods_of(study, wildcards.problem)
        ],
        index=paths.prepared_index(root),
    output:
        subjects=paths.scores(root, "{problem}"),
        volumes=paths.volume_scores(root, "{problem}"),
    log:
        paths.log(root, "evaluate-{problem}"),
    benchmark:
        paths.benchmark(root, "evaluate-{problem}")
    resources:
        mem_mb=more(4000),
        runtime=more(60),
    params:
        reads=reads("evaluate"),
    shell:
        medwvae("evaluate", "--task {wildcards.problem} --threads {threads}")
