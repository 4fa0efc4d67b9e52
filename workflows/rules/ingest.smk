"""Source folder to canonical volumes, manifest and split."""


rule phantom:
    output:
        directory(paths.phantom(root)),
    log:
        paths.log(root, "phantom"),
    benchmark:
        paths.benchmark(root, "phantom")
    threads: 4
    resources:
        mem_mb=more(3000),
        runtime=more(20),
    params:
        reads=reads("phantom"),
    shell:
        medwvae("phantom", "--threads {threads}")


rule ingest:
    input:
        source=stages.source_of(study),
        demographics=study.ingest.demographics or [],
    output:
        manifest=paths.manifest(root),
        volumes=directory(paths.canonical(root)),
    log:
        paths.log(root, "ingest"),
    benchmark:
        paths.benchmark(root, "ingest")
    threads: 4
    resources:
        mem_mb=more(4000),
        runtime=60,
    params:
        reads=reads("ingest"),
    shell:
        medwvae("ingest", "--threads {threads}")


rule split:
    input:
        manifest=paths.manifest(root),
        file=study.split.file or [],
    output:
        paths.splits(root),
    log:
        paths.log(root, "split"),
    benchmark:
        paths.benchmark(root, "split")
    resources:
        mem_mb=more(500),
        runtime=more(5),
    params:
        reads=reads("split"),
    shell:
        medwvae("split")
