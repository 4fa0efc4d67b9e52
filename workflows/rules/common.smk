"""What the rules share: the command, and the digests that decide whether a result is still valid."""


def medwvae(stage, arguments=""):
    """Shell text of a stage; it reads the configuration that the start of the workflow wrote."""
    return f"medwvae --log {{log}} {stage} --config {paths.config(root)} {arguments}".rstrip()


def reads(stage, task=None, method=None):
    """Digest of the configuration slice and of the code that a stage's result depends on."""
    code = provenance.stage_code(stage, method)
    return provenance.digest_of([slice_for(study, stage, task, method), code])


def reads_of(stage, method):
    """`reads` as a params function over the wildcards; `method` is the wildcard's name."""
    return lambda wildcards: reads(stage, wildcards.task, wildcards[method])


wildcard_constraints:
    task="|".join(study.tasks.enabled),
    network="|".join(NETWORKS),
    method="[a-z_]+",
