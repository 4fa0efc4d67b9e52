"""Scores per subject, one table a task."""


rule evaluate:
    input:
        lambda wildcards: [
            paths.record(root, wildcards.task, m)
            for m in stages.methods_of(study, wildcards.task)
        ],
        index=paths.prepared_index(root),
    output:
        subjects=paths.scores(root, "{task}"),
        volumes=paths.volume_scores(root, "{task}"),
    log:
        paths.log(root, "evaluate-{task}"),
    benchmark:
        paths.benchmark(root, "evaluate-{task}")
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        reads=reads("evaluate"),
    shell:
        medwvae("evaluate", "--task {wildcards.task} --threads {threads}")
