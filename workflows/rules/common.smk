"""What the rules share: the command, what jobs ask of a machine, the digests that tell whether a result is valid."""

import math
import os
import shlex

if IMAGE := os.environ.get("MEDWVAE_IMAGE"):

    # With `--sdm apptainer` jobs run the medwvae of the image.
    container: IMAGE

else:
    # The medwvae beside this Python, also where its environment is not activated.
    shell.prefix(f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH; ")


# Restorations that may run side by side on this machine: each plans with its part of the memory. In the environment and
# not in the command, which is part of what decides whether a result is valid. A job on a cluster is alone in its memory,
# whatever it inherits from the process that submitted it.
RESTORATIONS = sum(
    method in (*NETWORKS, ZERO_SHOT)
    for problem in study.problems()
    for method in stages.methods_of(study, problem.id)
)
SIDE_BY_SIDE = 1 if workflow.remote_exec else min(workflow.cores or 1, RESTORATIONS)
os.environ["MEDWVAE_JOBS"] = str(max(SIDE_BY_SIDE, 1))


def medwvae(stage, arguments="", launcher=""):
    """Shell text of a stage; it reads the configuration that the start of the workflow wrote."""
    config = shlex.quote(str(paths.config(root)))
    return f"{launcher}medwvae --log {{log:q}} {stage} --config {config} {arguments}".rstrip()


def more(amount):
    """Megabytes or minutes that a job asks for: as many again with every attempt, for it may have been killed for them.

    Minutes of what goes on where it was (training, ingestion) stay the same.
    """
    return lambda wildcards, attempt: amount * attempt


def training_minutes(budget):
    """Longest time of a training: half as much again as its budget, and what stands around it; a day for steps.

    Never more than a day, which is what partitions often allow: the next attempt goes on where it was.
    """
    day = 24 * 60
    return (
        day if budget.seconds is None else min(day, math.ceil(budget.seconds / 40) + 15)
    )


# Cards and nodes of a training; on several nodes srun starts one process a card.
NODES, DEVICES, ON_CARDS = (
    study.train.nodes,
    study.train.devices,
    study.train.accelerator != "cpu",
)
LAUNCHER = ""
TRAINING = {"gpu": NODES * DEVICES if ON_CARDS else 0}
if NODES > 1:
    PER_NODE = f"--ntasks-per-node={DEVICES}"
    if ON_CARDS:
        PER_NODE += f" --gpus-per-node={DEVICES}"
    # The executor keeps everything of the allocation from srun but the job's number. Where a process has died, the
    # others would wait for it.
    LAUNCHER = (
        "{resources.mpi} --nodes={resources.nodes} --ntasks={resources.tasks} "
        f"{PER_NODE} --cpus-per-task={{resources.cpus_per_task}} --kill-on-bad-exit=1 "
    )
    TRAINING |= {
        "nodes": NODES,
        "mpi": "srun",
        "tasks": NODES * DEVICES,
        "tasks_per_gpu": 0,  # no --ntasks-per-gpu, which binds: a process picks its card among all of its node
        "cpus_per_task": max(1, study.train.threads // DEVICES),
        "slurm_extra": PER_NODE,
    }


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
    method="[a-z0-9_]+",
    model=r"[a-z][a-z0-9_]*-r[0-9]+-s[0-9]+",
