"""The page, the long table, the summary, the model card and the data sheet."""


rule report:
    input:
        scores=[paths.scores(root, problem.id) for problem in study.problems()],
        histories=[
            paths.history(root, task, network)
            for task, network in stages.networks_trained(study)
        ],
        generative=(
            [paths.generative_table(root), paths.generative_summary(root)]
            if MODELS
            else []
        ),
        uses=(
            [
                paths.generative_uses(root, USED),
                *(paths.generative_use(root, USED, use) for use in LATENT_USES),
            ]
            if USED
            else []
        ),
        cohort=(
            [paths.prepared_index(root), paths.manifest(root), paths.splits(root)]
            if study.has_cohort
            else []
        ),
    output:
        page=paths.report(root),
        metrics=paths.metrics(root),
        summary=paths.summary(root),
        cards=[
            path(root, suffix)
            for path in (paths.model_card, paths.data_sheet)
            for suffix in ("md", "html")
        ],
    log:
        paths.log(root, "report"),
    benchmark:
        paths.benchmark(root, "report")
    resources:
        mem_mb=more(4000),
        runtime=more(30),
    params:
        reads=reads("report"),
    shell:
        medwvae("report")
