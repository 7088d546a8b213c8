"""The settings of ``datasets`` that this package changes after its import."""


def read_cache_only() -> None:
    """Make ``datasets`` read its cache without asking the hub, in this process.

    Needed where the hub does not answer: ``datasets`` would retry each file for half a minute. It
    reads the environment variable for this only when it is imported.

    Upstream: https://github.com/huggingface/datasets/issues/6837
    Versions: datasets>=5,<6 (tried with 5.2.0)
    """
    import datasets

    datasets.config.HF_HUB_OFFLINE = True
