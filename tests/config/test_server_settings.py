"""Settings of servers, checked before a server is started."""

import pytest
from hydra import compose, initialize_config_dir

from asym_lightning.config.trainer_checks import check_servers
from asym_lightning.rollout.server_settings import ServerSettings
from asym_lightning.runtime import config_dir
from asym_lightning.types import ConfigError


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["rollout.servers.count=3", "trainer.devices=2"], "count: 3 servers for 2 ranks"),
        (["rollout.servers.count=0"], "count=0: must be a whole number >= 1"),
        (
            ["rollout.servers.urls=[http://127.0.0.1:1]", "trainer.devices=2"],
            "urls: 1 servers for 2 ranks",
        ),
        (
            ["rollout.servers.urls=[http://127.0.0.1:1]", "rollout.servers.count=1"],
            "give one of the two",
        ),
        (["rollout.servers.urls=[127.0.0.1:8000]"], "127.0.0.1:8000 is not a server's address"),
        (["rollout.servers.urls=http://127.0.0.1:8000"], "must be a list"),
        (["rollout.servers.urls=[http://a:1,http://a:1]"], "named twice"),
        (
            ["rollout.servers.urls=[http://node2:8000]", "rollout.servers.api_key_env=NO_SUCH"],
            "variable NO_SUCH",
        ),
        (["trainer.num_nodes=2"], "rollout.servers.folder is not given"),
        (["rollout.servers.retries=-1"], "retries=-1"),
        (["rollout.servers.transfer=rdma"], "must be one of folder, nccl, ipc"),
        (["rollout.servers.transfer=nccl"], "this machine has no GPU; take folder"),
        (
            ["rollout.servers.transfer=ipc", "rollout.servers.urls=[http://127.0.0.1:1]"],
            "take nccl with urls",
        ),
        (["rollout.servers.request_timeout_s=0"], "request_timeout_s=0"),
        (["rollout.engine=transformers"], "take rollout=servers"),
    ],
)
def test_settings_that_cannot_work_are_refused(overrides: list[str], message: str) -> None:
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = compose("train", ["rollout=servers", "trainer.accelerator=cpu", *overrides])
    with pytest.raises(ConfigError) as error:
        check_servers(config)
    assert message in str(error.value)


def test_each_rank_has_servers_of_its_own() -> None:
    assert [ServerSettings(count=4).own(rank, 2) for rank in range(2)] == [[0, 2], [1, 3]]
    assert ServerSettings().own(1, 2) == [1]
    assert ServerSettings(urls=["http://a:1", "http://b:1"]).own(0, 1) == [0, 1]
