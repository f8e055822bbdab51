# Results: draws, metrics, figures, the report.


rule sample_posterior:
    input:
        unpack(inputs("sample")),
    output:
        root_file(RUN.posterior),
    params:
        settings=pipeline.settings("sample"),
        code=pipeline.code("sample"),
        prior=lambda wildcards, input: ["--prior", *input.prior] if input.prior else [],
        benchmark=str(EXPERIMENT.run_benchmark("sample", "{observation}", "{method}", "{seed}")),
    log:
        EXPERIMENT.run_log("sample", "{observation}", "{method}", "{seed}"),
    threads: pipeline.threads
    resources:
        mem_mb=pipeline.memory,
        runtime=pipeline.runtime("sample"),
        gpu=pipeline.gpu,
        gpu_model=pipeline.gpu_model,
        gres=pipeline.gres,
        workers=pipeline.workers,
        attempt=lambda wildcards, attempt: attempt,
    conda:
        "../../envs/pflow.yaml"
    message:
        "sample {wildcards.experiment}/{wildcards.observation}: {wildcards.method}, seed {wildcards.seed}"
    shell:
        "python -m pflow sample --settings {params.settings:q} --flow {input.flow:q} {params.prior:q} --observation {input.observation:q}"
        " --out {output:q} --threads {threads} --workers {resources.workers} --attempt {resources.attempt} --benchmark {params.benchmark:q} > {log:q} 2>&1"


rule calibrate_flow:
    input:
        unpack(inputs("calibrate")),
    output:
        numbers=FLOW.calibration,
        ranks=root_file(FLOW.ranks),
    params:
        settings=pipeline.settings("calibrate"),
        code=pipeline.code("calibrate"),
        observations=pipeline.listed("observations"),
        benchmark=str(EXPERIMENT.benchmark("calibrate", "{flow}")),
    log:
        EXPERIMENT.log("calibrate", "{flow}"),
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 30 * attempt,
        gpu=0,
        attempt=lambda wildcards, attempt: attempt,
    conda:
        "../../envs/pflow.yaml"
    message:
        "calibrate {wildcards.experiment}: flow {wildcards.flow}"
    shell:
        "python -m pflow calibrate --settings {params.settings:q} --flow {input.flow:q} --train-shards {input.train:q}"
        " --test-shards {input.test:q} --observations {params.observations:q} --out {output.numbers:q} --threads {threads} --attempt {resources.attempt} --benchmark {params.benchmark:q} > {log:q} 2>&1"


rule calibrate_fine_tuning:
    input:
        unpack(inputs("calibrate_method")),
    output:
        EXPERIMENT.method_calibration("{method}"),
    params:
        settings=pipeline.settings("calibrate_method"),
        code=pipeline.code("calibrate_method"),
        flows=pipeline.listed("flows"),
        observations=pipeline.listed("observations"),
        benchmark=str(EXPERIMENT.benchmark("calibrate_method", "{method}")),
    log:
        EXPERIMENT.log("calibrate_method", "{method}"),
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 30 * attempt,
        gpu=0,
        attempt=lambda wildcards, attempt: attempt,
    conda:
        "../../envs/pflow.yaml"
    message:
        "calibrate {wildcards.experiment}: method {wildcards.method}"
    shell:
        "python -m pflow calibrate_method --settings {params.settings:q} --flows {params.flows:q} --observations {params.observations:q}"
        " --out {output:q} --threads {threads} --attempt {resources.attempt} --benchmark {params.benchmark:q} > {log:q} 2>&1"


rule evaluate_posterior:
    input:
        unpack(inputs("evaluate")),
    output:
        RUN.metrics,
    params:
        settings=pipeline.settings("evaluate"),
        code=pipeline.code("evaluate"),
        optional=lambda wildcards, input: [
            word
            for name in ("prior", "reference", "calibration", "method_calibration")
            if input[name]
            for word in (f"--{name.replace('_', '-')}", *input[name])
        ],
        benchmark=str(EXPERIMENT.run_benchmark("evaluate", "{observation}", "{method}", "{seed}")),
    log:
        EXPERIMENT.run_log("evaluate", "{observation}", "{method}", "{seed}"),
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 30 * attempt,
        gpu=0,
        attempt=lambda wildcards, attempt: attempt,
    conda:
        "../../envs/pflow.yaml"
    message:
        "evaluate {wildcards.experiment}/{wildcards.observation}: {wildcards.method}, seed {wildcards.seed}"
    shell:
        "python -m pflow evaluate --settings {params.settings:q} --posterior {input.posterior:q} --flow {input.flow:q}"
        " {params.optional:q} --out {output:q} --threads {threads} --attempt {resources.attempt} --benchmark {params.benchmark:q} > {log:q} 2>&1"


rule draw_figures:
    input:
        unpack(inputs("figures")),
    output:
        EXPERIMENT.figure_index,
    params:
        settings=pipeline.settings("figures"),
        code=pipeline.code("figures"),
        source=str(EXPERIMENT.folder),
        folder=str(EXPERIMENT.figures),
        benchmark=str(EXPERIMENT.benchmark("figures")),
    log:
        EXPERIMENT.log("figures"),
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 30 * attempt,
        gpu=0,
        attempt=lambda wildcards, attempt: attempt,
    conda:
        "../../envs/pflow.yaml"
    message:
        "figures of {wildcards.experiment}"
    shell:
        "python -m pflow figures --settings {params.settings:q} --results {params.source:q} --out {params.folder:q}"
        " --threads {threads} --attempt {resources.attempt} --benchmark {params.benchmark:q} > {log:q} 2>&1"


rule write_report:
    input:
        unpack(inputs("report")),
    output:
        REPORT,
    params:
        settings=pipeline.settings("report"),
        code=pipeline.code("report"),
        results=lambda wildcards: pipeline.layout.results,
        benchmark=str(pipeline.layout.benchmark("report")),
    log:
        pipeline.layout.log("report"),
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 1500 * attempt,
        runtime=lambda wildcards, attempt: 10 * attempt,
        gpu=0,
        attempt=lambda wildcards, attempt: attempt,
    conda:
        "../../envs/pflow.yaml"
    message:
        "report"
    shell:
        "python -m pflow report --settings {params.settings:q} --results {params.results:q} --out {output:q} --threads {threads} --attempt {resources.attempt} --benchmark {params.benchmark:q} > {log:q} 2>&1"
