"""MLflow's logger where several processes share its store in a file."""

from pathlib import Path
from typing import Any

from filelock import FileLock
from lightning.pytorch.loggers import MLFlowLogger

SQLITE = "sqlite:///"


def mlflow_logger(tracking_uri: str, experiment_name: str, **settings: Any) -> MLFlowLogger:
    """Lightning's logger for MLflow. A store of SQLite is opened by one process at a time: the first makes its tables.

    Args:
        tracking_uri: the store, such as ``sqlite:///logs/mlflow.db`` or a server's address.
        experiment_name: what MLflow lists the runs under.
        settings: anything else that Lightning's logger takes.
    """
    given = {"tracking_uri": tracking_uri, "experiment_name": experiment_name, **settings}
    if not tracking_uri.startswith(SQLITE):
        return MLFlowLogger(**given)
    from mlflow import MlflowClient

    file = Path(tracking_uri.removeprefix(SQLITE))
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{file}.lock"):
        client = MlflowClient(tracking_uri)
        if client.get_experiment_by_name(experiment_name) is None:
            client.create_experiment(experiment_name)
        return MLFlowLogger(**given)
