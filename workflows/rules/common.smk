"""What the rules share: the command, and the digests that decide whether a result is still valid."""

import shlex

# The medwvae beside this Python, also where its environment is not activated.
shell.prefix(f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH; ")


def medwvae(stage, arguments=""):
    """Shell text of a stage; it reads the configuration that the start of the workflow wrote."""
    config = shlex.quote(str(paths.config(root)))
    return f"medwvae --log {{log:q}} {stage} --config {config} {arguments}".rstrip()


def reads(stage, problem=None, method=None):
    """Digest of the configuration slice and of the code that a stage's result depends on."""
    code = provenance.stage_code(stage, stages.module_of(study, method))
    return provenance.digest_of([slice_for(given, stage, problem, method), code])


def reads_of(stage, problem, method):
    """`reads` as a params function over the wildcards of these names."""
    return lambda wildcards: reads(stage, wildcards[problem], wildcards[method])


wildcard_constraints:
    task="|".join(study.tasks.enabled) or "no_task",
    problem="|".join(problem.id for problem in study.problems()) or "no_problem",
    network="|".join(NETWORKS),
    method="[a-z_]+",
    model=r"[a-z][a-z0-9_]*-r[0-9]+-s[0-9]+",
