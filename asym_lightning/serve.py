"""`python -m asym_lightning.serve FOLDER --max-model-len 2048`: a vLLM server for training runs.

It takes new weights from a run.
"""

from asym_lightning.rollout.serve import end_with_owner, main

# vLLM spawns its processes, which import this module by the second name.
if __name__ in ("__main__", "__mp_main__"):
    end_with_owner(spawned=__name__ == "__mp_main__")
if __name__ == "__main__":
    main()
