# Results: draws, metrics, figures, the report.


rule sample_posterior:
    input:
        flow=f"{R}/{{experiment}}/posteriors/{{observation}}/{{method}}/seed-{{seed}}/flow.safetensors",
        prior=pipeline.prior_file,
        observation=f"{R}/{{experiment}}/observations/{{observation}}.zarr/zarr.json",
    output:
        f"{R}/{{experiment}}/posteriors/{{observation}}/{{method}}/seed-{{seed}}/posterior.zarr/zarr.json",
    params:
        settings=pipeline.settings("sample"),
        code=pipeline.code("sample"),
        prior=lambda wildcards, input: f"--prior {input.prior}" if input.prior else "",
    log:
        f"{R}/{{experiment}}/logs/sample/{{observation}}/{{method}}/seed-{{seed}}.log",
    benchmark:
        f"{R}/{{experiment}}/benchmarks/sample/{{observation}}/{{method}}/seed-{{seed}}.tsv"
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
        "python -m pflow sample --settings {params.settings:q} --flow {input.flow} {params.prior} --observation {input.observation}"
        " --out {output} --threads {threads} --workers {resources.workers} --attempt {resources.attempt} > {log} 2>&1"


rule calibrate_flow:
    input:
        flow=f"{R}/{{experiment}}/pretrained/{{flow}}/flow.safetensors",
        train=lambda wildcards: pipeline.shards(wildcards.experiment, "train")[:1],
        test=lambda wildcards: pipeline.shards(wildcards.experiment, "test")[:1],
        observations=lambda wildcards: pipeline.observations(wildcards.experiment),
    output:
        numbers=report(
            f"{R}/{{experiment}}/pretrained/{{flow}}/calibration.json",
            caption="../report/calibration.rst",
            category="Calibration",
            subcategory="{experiment}",
            labels={"flow": "{flow}"},
        ),
        ranks=f"{R}/{{experiment}}/pretrained/{{flow}}/calibration.zarr/zarr.json",
    params:
        settings=pipeline.settings("calibrate"),
        code=pipeline.code("calibrate"),
    log:
        f"{R}/{{experiment}}/logs/calibrate/{{flow}}.log",
    benchmark:
        f"{R}/{{experiment}}/benchmarks/calibrate/{{flow}}.tsv"
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
        "python -m pflow calibrate --settings {params.settings:q} --flow {input.flow} --train-shards {input.train}"
        " --test-shards {input.test} --observations {input.observations} --out {output.numbers} --threads {threads} --attempt {resources.attempt} > {log} 2>&1"


rule calibrate_fine_tuning:
    input:
        flows=pipeline.replicate_flows,
        observations=pipeline.replicate_observations,
    output:
        f"{R}/{{experiment}}/calibration/{{method}}.json",
    params:
        settings=pipeline.settings("calibrate_method"),
        code=pipeline.code("calibrate_method"),
    log:
        f"{R}/{{experiment}}/logs/calibrate_method/{{method}}.log",
    benchmark:
        f"{R}/{{experiment}}/benchmarks/calibrate_method/{{method}}.tsv"
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
        "python -m pflow calibrate_method --settings {params.settings:q} --flows {input.flows} --observations {input.observations}"
        " --out {output} --threads {threads} --attempt {resources.attempt} > {log} 2>&1"


rule evaluate_posterior:
    input:
        posterior=f"{R}/{{experiment}}/posteriors/{{observation}}/{{method}}/seed-{{seed}}/posterior.zarr/zarr.json",
        flow=f"{R}/{{experiment}}/posteriors/{{observation}}/{{method}}/seed-{{seed}}/flow.safetensors",
        prior=pipeline.prior_file,
        reference=pipeline.reference_of,
        calibration=pipeline.calibration_of,
        method_calibration=lambda wildcards: pipeline.method_calibration(wildcards.experiment, wildcards.method),
    output:
        report(
            f"{R}/{{experiment}}/posteriors/{{observation}}/{{method}}/seed-{{seed}}/metrics.json",
            caption="../report/metrics.rst",
            category="Metrics",
            subcategory="{experiment}",
            labels={"observation": "{observation}", "method": "{method}", "seed": "{seed}"},
        ),
    params:
        settings=pipeline.settings("evaluate"),
        code=pipeline.code("evaluate"),
        optional=lambda wildcards, input: " ".join(
            f"--{name.replace('_', '-')} {input[name]}" for name in ("prior", "reference", "calibration", "method_calibration") if input[name]
        ),
    log:
        f"{R}/{{experiment}}/logs/evaluate/{{observation}}/{{method}}/seed-{{seed}}.log",
    benchmark:
        f"{R}/{{experiment}}/benchmarks/evaluate/{{observation}}/{{method}}/seed-{{seed}}.tsv"
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
        "python -m pflow evaluate --settings {params.settings:q} --posterior {input.posterior} --flow {input.flow}"
        " {params.optional} --out {output} --threads {threads} --attempt {resources.attempt} > {log} 2>&1"


rule draw_figures:
    input:
        pairs=lambda wildcards: pipeline.stage_files("simulate", wildcards.experiment),
        observations=lambda wildcards: pipeline.observations(wildcards.experiment),
        references=lambda wildcards: pipeline.references(wildcards.experiment),
        training=lambda wildcards: pipeline.flows(wildcards.experiment, "history.csv"),
        histories=lambda wildcards: pipeline.runs(wildcards.experiment, "history.csv"),
        calibrations=lambda wildcards: pipeline.flows(wildcards.experiment, "calibration.json"),
        metrics=lambda wildcards: pipeline.runs(wildcards.experiment, "metrics.json"),
        posteriors=lambda wildcards: pipeline.runs(wildcards.experiment, "posterior.zarr/zarr.json"),
    output:
        index=f"{R}/{{experiment}}/figures/index.json",
        shown=[
            report(
                f"{R}/{{experiment}}/figures/{name}.svg",
                caption="../report/figure.rst",
                category="Figures",
                subcategory="{experiment}",
                labels={"figure": name},
            )
            for name in ("calibration", "pretraining")
        ],
    params:
        settings=pipeline.settings("figures"),
        code=pipeline.code("figures"),
        source=f"{R}/{{experiment}}",
        folder=f"{R}/{{experiment}}/figures",
    log:
        f"{R}/{{experiment}}/logs/figures.log",
    benchmark:
        f"{R}/{{experiment}}/benchmarks/figures.tsv"
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
        "python -m pflow figures --settings {params.settings:q} --results {params.source} --out {params.folder}"
        " --threads {threads} --attempt {resources.attempt} > {log} 2>&1"


rule write_report:
    input:
        metrics=[f for name in pipeline.configuration.experiments for f in pipeline.runs(name, "metrics.json")],
        figures=[pipeline.figures(name) for name in pipeline.configuration.experiments],
        operators=[f for name in pipeline.configuration.experiments for f in pipeline.checked_operator(name)],
    output:
        report(f"{R}/report.html", caption="../report/report.rst", category="Report"),
    params:
        settings=pipeline.settings("report"),
        code=pipeline.code("report"),
        results=lambda wildcards, output: Path(output[0]).parent,
    log:
        f"{R}/logs/report.log",
    benchmark:
        f"{R}/benchmarks/report.tsv"
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
        "python -m pflow report --settings {params.settings:q} --results {params.results} --out {output} --threads {threads} --attempt {resources.attempt} > {log} 2>&1"
