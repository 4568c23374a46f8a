"""Made the samples of MLflow and W&B beside this file: see README.md."""

import math
import os
import random
import sys

ARMS = [(0.1, seed, "") for seed in (0, 1, 2)] + [(0.01, seed, "") for seed in (0, 1, 2)]
ARMS += [(0.3, 0, "breaks"), (0.3, 1, "diverges")]


def values(lr, seed, trouble):
    rng = random.Random(seed)
    base = rng.gauss(0.5, 0.02)
    for step in (0, 10, 20):
        accuracy = base + step / 100 + 0.1 * math.log10(lr / 0.1) + random.Random(f"{lr}{seed}{step}").gauss(0, 0.005)
        yield step, float("nan") if trouble == "diverges" and step else accuracy, 1 - accuracy


def mlflow_samples():
    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"  # without it mlflow 3 refuses
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    import mlflow

    mlflow.set_tracking_uri("file:./mlruns")
    mlflow.set_experiment("digits")
    for lr, seed, trouble in ARMS:
        try:
            with mlflow.start_run(run_name=f"lr {lr}, seed {seed}"):
                mlflow.log_params({"optimizer/lr": lr, "seed": seed, "activation": "relu"})
                for step, accuracy, loss in values(lr, seed, trouble):
                    mlflow.log_metric("val/accuracy", accuracy, step=step)
                    mlflow.log_metric("loss", loss, step=step)
                if trouble == "breaks":
                    raise ValueError("boom")
        except ValueError:
            pass
    if hasattr(mlflow, "search_runs"):
        mlflow.search_runs(experiment_names=["digits"]).drop(columns="artifact_uri").to_csv("runs.csv", index=False)


def wandb_samples():
    os.environ |= {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_DISABLE_GIT": "true"}
    import wandb

    settings = wandb.Settings(x_disable_stats=True, x_disable_meta=True, console="off", x_save_requirements=False,
                              disable_code=True)  # fmt: skip
    for lr, seed, trouble in ARMS:
        config = {"optimizer": {"lr": lr}, "seed": seed, "activation": "relu", "output_dir": f"out/{lr}-{seed}"}
        run = wandb.init(project="digits", name=f"lr {lr}, seed {seed}", config=config, settings=settings)
        for step, accuracy, loss in values(lr, seed, trouble):
            run.log({"accuracy": accuracy, "loss": loss}, step=step)
        run.finish(exit_code=1 if trouble == "breaks" else 0)


if __name__ == "__main__":
    {"mlflow": mlflow_samples, "wandb": wandb_samples}[sys.argv[1]]()
