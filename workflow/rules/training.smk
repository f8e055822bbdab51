# Training: stage 1 on low-fidelity pairs, stage 2 on one observation with the expensive operator.


rule pretrain_flow:
    input:
        unpack(inputs("pretrain")),
    output:
        weights=FLOW.weights,
        about=FLOW.about,
        history=FLOW.history,
    params:
        settings=pipeline.settings("pretrain"),
        code=pipeline.code("pretrain"),
        train=pipeline.listed("train"),
        validation=pipeline.listed("validation"),
        start=lambda wildcards, input: ["--start", *input.start] if input.start else [],
        folder=str(FLOW.folder),
        checkpoint=str(EXPERIMENT.pretraining_checkpoint("{flow}").state),
        benchmark=str(EXPERIMENT.benchmark("pretrain", "{flow}")),
    log:
        EXPERIMENT.log("pretrain", "{flow}"),
    priority: 2  # what takes longest goes first, so that short jobs fill the end
    threads: pipeline.pretraining_threads
    resources:
        mem_mb=pipeline.memory,
        runtime=pipeline.runtime("pretrain"),
        gpu=pipeline.pretraining_gpus,
        gpu_model=lambda wildcards: pipeline.gpu_model(wildcards) if pipeline.pretraining_gpus(wildcards) else "",
        gres=pipeline.pretraining_gres,
        devices=pipeline.devices,
        nodes=pipeline.nodes,
        tasks=pipeline.nodes,
        tasks_per_gpu=0,
        mpi=pipeline.launcher,
        attempt=lambda wildcards, attempt: attempt,
    conda:
        "../../envs/pflow.yaml"
    message:
        "pretrain {wildcards.experiment}: flow {wildcards.flow}"
    shell:
        "python -m pflow pretrain --settings {params.settings:q} --train-shards {params.train:q}"
        " --validation-shards {params.validation:q} {params.start:q} --out {params.folder:q} --checkpoint {params.checkpoint:q}"
        " --threads {threads} --devices {resources.devices} --nodes {resources.nodes} --attempt {resources.attempt} --benchmark {params.benchmark:q} > {log:q} 2>&1"


rule finetune_flow:
    input:
        unpack(inputs("finetune")),
    output:
        weights=RUN.weights,
        about=RUN.about,
        history=RUN.history,
    params:
        settings=pipeline.settings("finetune"),
        code=pipeline.code("finetune"),
        start=lambda wildcards, input: ["--pretrained", *input.start] if input.start else [],
        prior=lambda wildcards, input: ["--prior", *input.prior] if input.prior else [],
        reuse=lambda wildcards, input: ["--reuse", *input.reused] if input.reused else [],
        cost=lambda wildcards, input: ["--operator", *input.operator] if pipeline.wants_cost(wildcards) else [],
        folder=str(RUN.folder),
        checkpoint=str(EXPERIMENT.run_checkpoint("{observation}", "{method}", "{seed}").state),
        benchmark=str(EXPERIMENT.run_benchmark("finetune", "{observation}", "{method}", "{seed}")),
    log:
        EXPERIMENT.run_log("finetune", "{observation}", "{method}", "{seed}"),
    priority: 1
    threads: pipeline.threads
    resources:
        mem_mb=pipeline.memory,
        runtime=pipeline.runtime("finetune"),
        gpu=pipeline.gpu,
        gpu_model=pipeline.gpu_model,
        gres=pipeline.gres,
        workers=pipeline.workers,
        attempt=lambda wildcards, attempt: attempt,
    conda:
        "../../envs/pflow.yaml"
    message:
        "finetune {wildcards.experiment}/{wildcards.observation}: {wildcards.method}, seed {wildcards.seed}"
    shell:
        "python -m pflow finetune --settings {params.settings:q} {params.start:q} {params.prior:q} {params.reuse:q} {params.cost:q} --observation {input.observation:q}"
        " --out {params.folder:q} --checkpoint {params.checkpoint:q} --threads {threads} --workers {resources.workers} --attempt {resources.attempt} --benchmark {params.benchmark:q} > {log:q} 2>&1"
