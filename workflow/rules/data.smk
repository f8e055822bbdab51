# Data and references: pairs, observations, the check of the operator, the spectrum of the training images, exact posteriors.


rule simulate_shard:
    input:
        pairs=pipeline.pairs_files,
    output:
        f"{R}/{{experiment}}/pairs/{{split}}/shard-{{shard}}.zarr/zarr.json",
    params:
        settings=pipeline.settings("simulate"),
        code=pipeline.code("simulate"),
    log:
        f"{R}/{{experiment}}/logs/simulate/{{split}}-{{shard}}.log",
    benchmark:
        f"{R}/{{experiment}}/benchmarks/simulate/{{split}}-{{shard}}.tsv"
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
        "python -m pflow simulate --settings {params.settings:q} --out {output} --threads {threads} --workers {resources.workers} --attempt {resources.attempt} > {log} 2>&1"


rule observe_data:
    input:
        measured=pipeline.measured_files,
    output:
        f"{R}/{{experiment}}/observations/{{observation}}.zarr/zarr.json",
    params:
        settings=pipeline.settings("observe"),
        code=pipeline.code("observe"),
    log:
        f"{R}/{{experiment}}/logs/observe/{{observation}}.log",
    benchmark:
        f"{R}/{{experiment}}/benchmarks/observe/{{observation}}.tsv"
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
        "python -m pflow observe --settings {params.settings:q} --out {output} --threads {threads} --attempt {resources.attempt} > {log} 2>&1"


rule check_forward_operator:
    output:
        report(f"{R}/{{experiment}}/operator.json", caption="../report/operator.rst", category="Operator", labels={"experiment": "{experiment}"}),
    params:
        settings=pipeline.settings("check_operator"),
        code=pipeline.code("check_operator"),
    log:
        f"{R}/{{experiment}}/logs/check_operator.log",
    benchmark:
        f"{R}/{{experiment}}/benchmarks/check_operator.tsv"
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
        "python -m pflow check_operator --settings {params.settings:q} --out {output} --threads {threads} --workers {resources.workers} --attempt {resources.attempt} > {log} 2>&1"


rule estimate_spectrum:
    input:
        train=lambda wildcards: pipeline.shards(wildcards.experiment, "train"),
    output:
        f"{R}/{{experiment}}/prior/spectrum.zarr/zarr.json",
    params:
        settings=pipeline.settings("spectrum"),
        code=pipeline.code("spectrum"),
    log:
        f"{R}/{{experiment}}/logs/spectrum.log",
    benchmark:
        f"{R}/{{experiment}}/benchmarks/spectrum.tsv"
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
        "python -m pflow spectrum --settings {params.settings:q} --train-shards {input.train} --out {output} --threads {threads} --attempt {resources.attempt} > {log} 2>&1"


rule reference_posterior:
    input:
        observation=f"{R}/{{experiment}}/observations/{{observation}}.zarr/zarr.json",
        prior=pipeline.reference_prior,
    output:
        f"{R}/{{experiment}}/posteriors/{{observation}}/reference.zarr/zarr.json",
    params:
        settings=pipeline.settings("reference"),
        code=pipeline.code("reference"),
        prior=lambda wildcards, input: f"--prior {input.prior}" if input.prior else "",
    log:
        f"{R}/{{experiment}}/logs/reference/{{observation}}.log",
    benchmark:
        f"{R}/{{experiment}}/benchmarks/reference/{{observation}}.tsv"
    priority: 1
    threads: 1
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
        "python -m pflow reference --settings {params.settings:q} {params.prior} --observation {input.observation}"
        " --out {output} --threads {threads} --workers {resources.workers} --attempt {resources.attempt} > {log} 2>&1"
