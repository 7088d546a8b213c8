"""An MLflow logger for several processes that share a store in a file."""

from pathlib import Path
from typing import Any

from filelock import FileLock
from lightning.pytorch.loggers import MLFlowLogger

SQLITE = "sqlite:///"


def mlflow_logger(tracking_uri: str, experiment_name: str, **settings: Any) -> MLFlowLogger:
    """Return Lightning's logger for MLflow.

    A lock lets one process at a time open an SQLite store; the first process creates its tables.

    Args:
        tracking_uri: the store, such as ``sqlite:///logs/mlflow.db`` or the address of a server.
        experiment_name: the MLflow experiment of the runs.
        settings: other arguments of Lightning's logger.
    """
    options = {"tracking_uri": tracking_uri, "experiment_name": experiment_name, **settings}
    if not tracking_uri.startswith(SQLITE):
        return MLFlowLogger(**options)
    from mlflow import MlflowClient

    file = Path(tracking_uri.removeprefix(SQLITE))
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{file}.lock"):
        client = MlflowClient(tracking_uri)
        if client.get_experiment_by_name(experiment_name) is None:
            client.create_experiment(experiment_name)
        return MLFlowLogger(**options)
