# Of many observations: several share a job, which runs the stages of one after the other. The results are those of the rules
# for one observation, and the output says which are made.


rule observe_batch:
    input:
        unpack(inputs("observe_batch")),
    output:
        EXPERIMENT.observation_batch("{batch}"),
    params:
        settings=pipeline.batch_settings("observe_batch"),
        code=pipeline.batch_code("observe_batch"),
        benchmark=str(EXPERIMENT.batch_benchmark("observe", "{batch}")),
    log:
        EXPERIMENT.batch_log("observe", "{batch}"),
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 1500 * attempt,
        runtime=pipeline.batch_runtime("observe_batch"),
        gpu=0,
        attempt=lambda wildcards, attempt: attempt,
    conda:
        "../../envs/pflow.yaml"
    message:
        "observe {wildcards.experiment}: batch {wildcards.batch}"
    shell:
        "python -m pflow batch --settings {params.settings:q} --out {output:q} --threads {threads} --attempt {resources.attempt} --benchmark {params.benchmark:q} > {log:q} 2>&1"


rule reference_batch:
    input:
        unpack(inputs("reference_batch")),
    output:
        EXPERIMENT.reference_batch("{batch}"),
    params:
        settings=pipeline.batch_settings("reference_batch"),
        code=pipeline.batch_code("reference_batch"),
        benchmark=str(EXPERIMENT.batch_benchmark("reference", "{batch}")),
    log:
        EXPERIMENT.batch_log("reference", "{batch}"),
    priority: 1
    threads: pipeline.chains
    resources:
        mem_mb=lambda wildcards, attempt: 1500 * attempt,
        runtime=pipeline.batch_runtime("reference_batch"),
        gpu=0,
        workers=pipeline.workers,
        attempt=lambda wildcards, attempt: attempt,
    conda:
        "../../envs/pflow.yaml"
    message:
        "reference posteriors of {wildcards.experiment}: batch {wildcards.batch}"
    shell:
        "python -m pflow batch --settings {params.settings:q} --out {output:q} --threads {threads} --workers {resources.workers} --attempt {resources.attempt} --benchmark {params.benchmark:q} > {log:q} 2>&1"


rule run_batch:
    input:
        unpack(inputs("run_batch")),
    output:
        EXPERIMENT.run_batch("{method}", "{seed}", "{batch}"),
    params:
        settings=pipeline.batch_settings("run_batch"),
        code=pipeline.batch_code("run_batch"),
        benchmark=str(EXPERIMENT.batch_benchmark("{method}", "seed-{seed}", "{batch}")),
    log:
        EXPERIMENT.batch_log("{method}", "seed-{seed}", "{batch}"),
    priority: 1
    threads: pipeline.threads
    resources:
        mem_mb=pipeline.memory,
        runtime=pipeline.batch_runtime("run_batch"),
        gpu=pipeline.gpu,
        gpu_model=pipeline.gpu_model,
        gres=pipeline.gres,
        workers=pipeline.workers,
        attempt=lambda wildcards, attempt: attempt,
    conda:
        "../../envs/pflow.yaml"
    message:
        "fine-tune, sample and evaluate {wildcards.experiment}: {wildcards.method}, seed {wildcards.seed}, batch {wildcards.batch}"
    shell:
        "python -m pflow batch --settings {params.settings:q} --out {output:q} --threads {threads} --workers {resources.workers} --attempt {resources.attempt} --benchmark {params.benchmark:q} > {log:q} 2>&1"
