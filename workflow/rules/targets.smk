# Targets by name: `snakemake STAGE` for one stage of all experiments, `snakemake EXPERIMENT` for one experiment.


for stage in ("simulate", "observe", "check_operator", "reference", "pretrain", "calibrate", "calibrate_method", "finetune", "sample", "evaluate", "figures"):

    rule:
        name:
            stage
        input:
            [f for experiment in pipeline.configuration.experiments for f in pipeline.stage_files(stage, experiment)],


rule report:
    input:
        f"{R}/report.html",


for experiment in pipeline.configuration.experiments:

    rule:
        name:
            experiment
        input:
            pipeline.products(experiment),
