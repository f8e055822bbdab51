# Data and references: pairs, observations, the check of the operator, the spectrum of the training images, exact posteriors.


rule simulate_shard:
    input:
        unpack(inputs("simulate")),
    output:
        root_file(EXPERIMENT.shard("{split}", "{shard}")),
    params:
        settings=pipeline.settings("simulate"),
        code=pipeline.code("simulate"),
        benchmark=str(EXPERIMENT.benchmark("simulate", "{split}-{shard}")),
    log:
        EXPERIMENT.log("simulate", "{split}-{shard}"),
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 1500 * attempt,
        runtime=lambda wildcards, attempt: 20 * attempt,
        gpu=0,
        workers=pipeline.workers,
        attempt=lambda wildcards, attempt: attempt,
    conda:
        "../../envs/pflow.yaml"
    message:
        "simulate {wildcards.experiment}: {wildcards.split} pairs, shard {wildcards.shard}"
    shell:
        "python -m pflow simulate --settings {params.settings:q} --out {output:q} --threads {threads} --workers {resources.workers} --attempt {resources.attempt} --benchmark {params.benchmark:q} > {log:q} 2>&1"


rule observe_data:
    input:
        unpack(inputs("observe")),
    output:
        root_file(EXPERIMENT.observation("{observation}")),
    params:
        settings=pipeline.settings("observe"),
        code=pipeline.code("observe"),
        benchmark=str(EXPERIMENT.benchmark("observe", "{observation}")),
    log:
        EXPERIMENT.log("observe", "{observation}"),
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 1500 * attempt,
        runtime=lambda wildcards, attempt: 20 * attempt,
        gpu=0,
        attempt=lambda wildcards, attempt: attempt,
    conda:
        "../../envs/pflow.yaml"
    message:
        "observe {wildcards.experiment}: {wildcards.observation}"
    shell:
        "python -m pflow observe --settings {params.settings:q} --out {output:q} --threads {threads} --attempt {resources.attempt} --benchmark {params.benchmark:q} > {log:q} 2>&1"


rule check_forward_operator:
    input:
        unpack(inputs("check_operator")),
    output:
        EXPERIMENT.operator,
    params:
        settings=pipeline.settings("check_operator"),
        code=pipeline.code("check_operator"),
        benchmark=str(EXPERIMENT.benchmark("check_operator")),
    log:
        EXPERIMENT.log("check_operator"),
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 1500 * attempt,
        runtime=lambda wildcards, attempt: 20 * attempt,
        gpu=0,
        workers=pipeline.workers,
        attempt=lambda wildcards, attempt: attempt,
    conda:
        "../../envs/pflow.yaml"
    message:
        "check the operator of {wildcards.experiment}"
    shell:
        "python -m pflow check_operator --settings {params.settings:q} --out {output:q} --threads {threads} --workers {resources.workers} --attempt {resources.attempt} --benchmark {params.benchmark:q} > {log:q} 2>&1"


rule estimate_spectrum:
    input:
        unpack(inputs("spectrum")),
    output:
        root_file(EXPERIMENT.spectrum),
    params:
        settings=pipeline.settings("spectrum"),
        code=pipeline.code("spectrum"),
        train=pipeline.listed("train"),
        benchmark=str(EXPERIMENT.benchmark("spectrum")),
    log:
        EXPERIMENT.log("spectrum"),
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 1500 * attempt,
        runtime=lambda wildcards, attempt: 20 * attempt,
        gpu=0,
        attempt=lambda wildcards, attempt: attempt,
    conda:
        "../../envs/pflow.yaml"
    message:
        "spectrum of the training images of {wildcards.experiment}"
    shell:
        "python -m pflow spectrum --settings {params.settings:q} --train-shards {params.train:q} --out {output:q} --threads {threads} --attempt {resources.attempt} --benchmark {params.benchmark:q} > {log:q} 2>&1"


rule reference_posterior:
    input:
        unpack(inputs("reference")),
    output:
        root_file(EXPERIMENT.reference("{observation}")),
    params:
        settings=pipeline.settings("reference"),
        code=pipeline.code("reference"),
        prior=lambda wildcards, input: ["--prior", *input.prior] if input.prior else [],
        points=str(EXPERIMENT.kept_points("{observation}")),
        benchmark=str(EXPERIMENT.benchmark("reference", "{observation}")),
    log:
        EXPERIMENT.log("reference", "{observation}"),
    priority: 1
    threads: pipeline.chains
    resources:
        mem_mb=lambda wildcards, attempt: 1500 * attempt,
        runtime=pipeline.runtime("reference"),
        gpu=0,
        workers=pipeline.workers,
        attempt=lambda wildcards, attempt: attempt,
    conda:
        "../../envs/pflow.yaml"
    message:
        "reference posterior of {wildcards.experiment}: {wildcards.observation}"
    shell:
        "python -m pflow reference --settings {params.settings:q} {params.prior:q} --observation {input.observation:q}"
        " --out {output:q} --points {params.points:q} --threads {threads} --workers {resources.workers} --attempt {resources.attempt} --benchmark {params.benchmark:q} > {log:q} 2>&1"
