# Targets by name: `snakemake STAGE` for one stage of all experiments, `snakemake EXPERIMENT` for one experiment.


for stage in ("simulate", "observe", "check_operator", "reference", "pretrain", "calibrate", "calibrate_method", "finetune", "sample", "evaluate", "figures"):

    rule:
        name:
            stage
        input:
            [f for experiment in pipeline.configuration.experiments for f in pipeline.stage_files(stage, experiment)],
        message:
            f"all results of {stage}"


rule report:
    input:
        f"{R}/report.html",
    message:
        f"{R}/report.html"


for experiment in pipeline.configuration.experiments:

    rule:
        name:
            experiment
        input:
            pipeline.wanted([experiment]),
        message:
            f"all of {experiment}"
