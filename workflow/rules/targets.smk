# Targets by name: `snakemake STAGE` for one stage of all experiments, `snakemake EXPERIMENT` for one experiment.


for stage in STAGES:

    rule:
        name:
            stage
        input:
            pipeline.target(stage),
        message:
            f"all results of {stage}"


for experiment in pipeline.configuration.experiments:

    rule:
        name:
            experiment
        input:
            pipeline.wanted([experiment]),
        message:
            f"all of {experiment}"
