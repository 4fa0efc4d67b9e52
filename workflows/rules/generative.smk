"""The study of generative models: train, prior, score, per model; references; the table. Off without systems.
The resumable state lies under state/ and is not declared, as in train.smk."""

MODELS = stages.generative_models(study)
USED = study.generative.uses if MODELS else None


try:
    IMAGE_SET = stages.image_set_files(given)
except MedwvaeError as error:
    raise SystemExit(f"medwvae: error: {error}")

# A folder's own time does not tell of its files: the set's names, sizes and times are part of `reads`.
IMAGES = study.generative.data.path if IMAGE_SET else paths.prepared_index(root)


def reads_images(stage, method=None):
    """`reads` of a stage that reads the images of the generative models."""
    digest = reads(stage, method=method)
    return provenance.digest_of([digest, IMAGE_SET]) if IMAGE_SET else digest


def reads_of_model(stage):
    """`reads_images` of a stage as a params function over the wildcard `model`."""
    return lambda wildcards: reads_images(stage, wildcards.model)


def weights_of(wildcards):
    """What a model's scores are computed from; a control has no weights."""
    return stages.generative_weights(study, wildcards.model)


def models_in_use(wildcards):
    """The model whose latent is put to use, and the one that walks beside it."""
    rival = study.generative.rival_of(wildcards.model)
    return [wildcards.model, rival] if rival else [wildcards.model]


rule train_generative:
    input:
        IMAGES,
    output:
        model=paths.generative_model(root, "{model}"),
        history=paths.generative_history(root, "{model}"),
    log:
        paths.log(root, "train-{model}"),
    benchmark:
        paths.benchmark(root, "train-{model}")
    priority: 2  # prior and scores wait for it: the longest chain of the study goes first
    threads: study.train.threads
    resources:
        **TRAINING,
        mem_mb=more(8000),
        runtime=lambda wildcards: training_minutes(
            study.generative_budget(study.generative.models()[wildcards.model].system)
        ),
    params:
        reads=reads_of_model("train_generative"),
    shell:
        medwvae(
            "train-generative",
            "--model {wildcards.model} --threads {threads}",
            launcher=LAUNCHER,
        )


rule train_prior:
    input:
        IMAGES,
        model=paths.generative_model(root, "{model}"),
    output:
        prior=paths.generative_prior(root, "{model}"),
        history=paths.generative_prior_history(root, "{model}"),
    log:
        paths.log(root, "train-prior-{model}"),
    benchmark:
        paths.benchmark(root, "train-prior-{model}")
    priority: 1
    threads: study.train.threads
    resources:
        **TRAINING,
        mem_mb=more(8000),
        runtime=training_minutes(parse_budget(study.generative.prior.budget)),
    params:
        reads=reads_of_model("train_prior"),
    shell:
        medwvae(
            "train-prior",
            "--model {wildcards.model} --threads {threads}",
            launcher=LAUNCHER,
        )


rule score_generative:
    input:
        index=IMAGES,
        weights=weights_of,
    output:
        scores=paths.generative_scores(root, "{model}"),
        facts=paths.generative_facts(root, "{model}"),
        pictures=paths.generative_pictures(root, "{model}"),
    log:
        paths.log(root, "score-{model}"),
    benchmark:
        paths.benchmark(root, "score-{model}")
    resources:
        mem_mb=more(6000),
        runtime=more(120),
        gpu=int(study.train.accelerator != "cpu"),
    params:
        reads=reads_of_model("score_generative"),
    shell:
        medwvae("score-generative", "--model {wildcards.model} --threads {threads}")


rule generative_uses:
    input:
        index=IMAGES,
        weights=lambda wildcards: [
            path
            for model in models_in_use(wildcards)
            for path in stages.generative_weights(study, model)
        ],
    output:
        figures=[paths.generative_use(root, "{model}", use) for use in LATENT_USES],
        numbers=paths.generative_uses(root, "{model}"),
    log:
        paths.log(root, "uses-{model}"),
    benchmark:
        paths.benchmark(root, "uses-{model}")
    resources:
        mem_mb=more(4000),
        runtime=more(60),
    params:
        reads=lambda wildcards: provenance.digest_of(
            [
                reads_images("generative_uses", model)
                for model in models_in_use(wildcards)
            ]
        ),
    shell:
        medwvae("generative-uses", "--model {wildcards.model} --threads {threads}")


rule generative_references:
    input:
        IMAGES,
    output:
        scores=paths.generative_scores(root, stages.REFERENCES),
        facts=paths.generative_facts(root, stages.REFERENCES),
        pictures=paths.generative_pictures(root, stages.REFERENCES),
    log:
        paths.log(root, "generative-references"),
    benchmark:
        paths.benchmark(root, "generative-references")
    resources:
        mem_mb=more(6000),
        runtime=more(60),
    params:
        reads=reads_images("generative_references"),
    shell:
        medwvae("generative-references", "--threads {threads}")


rule generative_report:
    input:
        scores=[paths.generative_scores(root, m) for m in [*MODELS, stages.REFERENCES]],
        facts=[paths.generative_facts(root, m) for m in [*MODELS, stages.REFERENCES]],
    output:
        table=paths.generative_table(root),
        summary=paths.generative_summary(root),
    log:
        paths.log(root, "generative-report"),
    benchmark:
        paths.benchmark(root, "generative-report")
    resources:
        mem_mb=more(2000),
        runtime=more(10),
    params:
        reads=reads("generative_report"),
    shell:
        medwvae("generative-report")
