"""Canonical volumes to slices in network units."""


rule preprocess:
    input:
        manifest=paths.manifest(root),
        volumes=paths.canonical(root),
        splits=paths.splits(root),
    output:
        index=paths.prepared_index(root),
        slices=directory(paths.prepared(root)),
    log:
        paths.log(root, "preprocess"),
    benchmark:
        paths.benchmark(root, "preprocess")
    threads: 4
    resources:
        mem_mb=more(6000),
        runtime=more(60),
    params:
        reads=reads("preprocess"),
    shell:
        medwvae("preprocess", "--threads {threads}")
