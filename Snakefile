# pflow: simulate -> pretrain -> finetune -> sample -> evaluate -> figures -> report
# `snakemake` runs everything, `snakemake rosenbrock` one experiment, `snakemake simulate` one stage, `snakemake -n` only tells.
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

sys.path.insert(0, workflow.current_basedir.get_path_or_uri(secret_free=True))
from pflow.config.jobs import SPLITS
from pflow.errors import PflowError
from pflow.execution.finished import forget_finished
from pflow.execution.job_server import start_job_server
from pflow.pipeline.batch_sizes import forget_inherited_sizes
from pflow.pipeline.checks import check_yaml
from pflow.pipeline.failures import summary_of_failures
from pflow.pipeline.modules import configuration_is_given, is_module, require_no_prefix
from pflow.pipeline.partial_report import forget_partial_report, write_partial_report
from pflow.pipeline.reruns import Reruns
from pflow.pipeline.stages import STAGES
from pflow.pipeline.workflow import Pipeline, offer_this_python
from pflow.provenance.planned import forget_inherited_plan
from pflow.storage.layout import root_file

if workflow.is_main_process:  # a batch job keeps the plan of its controller
    forget_inherited_plan()
    forget_inherited_sizes()
offer_this_python()
if not configuration_is_given(workflow, config):
    try:
        check_yaml("config.yaml")
    except PflowError as error:
        raise WorkflowError(str(error))

    configfile: "config.yaml"


try:
    pipeline = Pipeline(config, Path(workflow.basedir), data_made=is_module(workflow), planned=not workflow.is_main_process)
    require_no_prefix(workflow, pipeline.layout.results)
    inputs = Reruns(workflow, pipeline).inputs
except PflowError as error:
    raise WorkflowError(f"the configuration is not valid:\n{error}")

# Paths of the rules, with their wildcards.
REPORT = str(pipeline.layout.report)
EXPERIMENT = pipeline.layout.experiment("{experiment}")
FLOW = EXPERIMENT.pretrained("{flow}")
RUN = EXPERIMENT.run("{observation}", "{method}", "{seed}")


wildcard_constraints:
    experiment="|".join(pipeline.configuration.experiments),
    split="|".join(SPLITS),
    shard=r"\d+",
    seed=r"\d+",
    batch=r"\d+",
    flow=r"[\w-]+",
    method=r"[\w-]+",
    observation=r"[\w-]+",


rule all:
    input:
        pipeline.wanted(list(pipeline.configuration.experiments), last=(REPORT,)),
    message:
        f"all experiments: {REPORT}"


onstart:
    if workflow.local_exec and not workflow.deployment_settings.deployment_method:
        start_job_server(jobs=sum(1 for _ in workflow.dag.needrun_jobs()))


onsuccess:
    forget_finished(pipeline.layout.results)
    forget_partial_report(pipeline)


onerror:
    failures = summary_of_failures(log)
    print("\nWhat failed, and why:", failures, write_partial_report(pipeline, failures), sep="\n", file=sys.stderr)


include: "workflow/rules/data.smk"
include: "workflow/rules/training.smk"
include: "workflow/rules/results.smk"
include: "workflow/rules/batches.smk"
include: "workflow/rules/targets.smk"
