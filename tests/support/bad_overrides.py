"""Overrides of train.py that must be refused, each with a pattern of its one line."""

from tests.support import ROOT

SHARDS = "trainer=fsdp2 trainer.accelerator=cpu"
ZERO = "trainer=deepspeed trainer.accelerator=cpu"
RANKS = "trainer.devices={0} rollout.prompts_per_iteration={0} policy.prompts_per_mini_batch={0}"
BAD = {
    "algo=asymgpro": "did you mean algo=asymgrpo.*dr_grpo",
    "experiment=nothing": "experiment",
    "rollout.group_sise=4": "did you mean 'rollout.group_size'",
    "trainer.max_epoch=3": "did you mean 'trainer.max_epochs'",
    "algo.advantage.beta_poss=1": "did you mean 'algo.advantage.beta_pos'",
    "policy.optimizer.lr=1": r"unknown key .*did you mean 'policy\.optimizer\.learning_rate'\?$",
    "learning_rate=1": r"did you mean 'policy\.optimizer\.learning_rate'\?$",
    "trainer.grad_clip=1": (
        r"unknown key 'trainer\.grad_clip'; python train\.py --help lists every key$"
    ),
    "algo.kl_coef=0.1": r"unknown key 'algo\.kl_coef'; python train\.py --help lists every key$",
    "rollout.n=8": r"unknown key 'rollout\.n'; python train\.py --help lists every key$",
    "task=math task.pth=x": r"did you mean 'task\.path'\?$",
    "benchmarks.math500.path=x": (
        r"unknown key 'benchmarks\.math500\.path'; python train\.py --help"
    ),
    "alg=grpo": r"did you mean 'algo'\?$",
    "task.path=foo.jsonl": r"error: task\.path: task=countdown has no such key; task=math has it$",
    "algo=grpo loss@algo.loss=cispo_cap algo.loss.clip_low=0.1": (
        r"=cispo_cap has no such key; loss@algo\.loss=gspo, ppo_clip, .* have it"
    ),
    "algo.correction.cap=2": (
        r"correction=none has no such key; correction=sequence_tis, tis have it$"
    ),
    "algo.aggregation.max_tokens=5": (
        r"aggregation@algo\.aggregation=token_mean .*; .*=sequence_sum_over_constant has it$"
    ),
    "task=math task.path.file=x": r"unknown key 'task\.path\.file'",
    "policy.lora.r=8": r"policy\.lora\.r: lora=none has no such key; lora=default has it$",
    "trainer.strategy.stage=2": r"trainer=default has no such key; trainer=deepspeed has it$",
    "+trainer.bogus=1": r"trainer\.bogus",
    "+algo.advantage.bogus=1": r"algo\.advantage\.bogus",
    "algo.advantage.beta_pos=-1": r"algo\.advantage\.beta_pos=-1.*>= 0",
    "algo.advantage.beta_neg=nan": r"algo\.advantage\.beta_neg=nan",
    "algo.advantage.beta_pos=abc": r"algo\.advantage\.beta_pos=abc",
    "algo.advantage._target_=no.such.place": r"algo\.advantage.*no\.such\.place",
    "rollout.group_size=two": r"rollout\.group_size=two.*whole number",
    "rollout.group_size=2.5": r"rollout\.group_size=2\.5.*whole number",
    "rollout.group_size=0": r"rollout\.group_size=0",
    "rollout.group_size=1 algo=grpo": r"rollout\.group_size=1.*2 or more",
    "rules@algo.rules=dapo": (
        r"algo=asymgrpo: reward 0\.5 is neither 0 nor 1: set success_threshold"
    ),
    "algo=siren algo.modulation.siren.top_p=2": (
        r"algo\.modulation\.siren\.top_p=2: must be a finite number > 0 and <= 1"
    ),
    "algo.rules.dynamic_sampling=-1": (
        r"algo\.rules\.dynamic_sampling=-1: must be a whole number >= 0"
    ),
    "rollout.group_size=4 algo=pass_at_k": (
        r"algo\.advantage\.k=4.*below the group .*\(rollout\.group_size=4\)"
    ),
    "correction=ties": "did you mean correction=tis",
    "correction=tis policy.old_logprobs=engine": (
        r"policy\.old_logprobs=engine: the ratio .* algo=asymgrpo .* weigh by it twice"
    ),
    "correction=tis algo.correction.cap=0.5": (
        r"algo\.correction\.cap=0\.5: must be a finite number >= 1"
    ),
    "correction=mis algo.correction.high=0.5": (
        r"algo\.correction\.high=0\.5: must be a finite number >= 1"
    ),
    "algo=grpo modulation@algo.modulation=entropy_bonus algo.modulation.entropy_bonus.coef=-1": (
        r"algo\.modulation\.entropy_bonus\.coef=-1: must be a finite number >= 0"
    ),
    "algo.correction=null": r"algo\.correction=None: must be a correction .*conf/correction",
    "policy.old_logprobs=both": r"policy\.old_logprobs=both: must be one of trainer, engine",
    "rollout.group_size=1": r"rollout\.group_size=1.*2 or more",
    "rollout.temperature=0": r"rollout\.temperature=0",
    "rollout.max_tokens=100000": "rollout.max_tokens=100000.*context of 16384",
    "rollout.engine=sglang": "must be one of vllm, transformers",
    "seed=x": "seed=x",
    "seed=1.5": r"seed=1\.5: must be a whole number >= 0",
    "+data.foo=1": r"^error: data.*foo",
    "rollout=servers rollout.staleness=0.5": r"rollout\.staleness=0\.5: must be a whole number",
    "trainer.max_epochs=0": r"trainer\.max_epochs=0",
    "trainer.devices=0": r"trainer.*devices=0",
    "trainer.devices=3": "3 ranks",
    "trainer.strategy=bogus": "trainer.*bogus",
    "trainer.precision=bogus": "trainer.*bogus",
    "trainer.strategy=deepspeed trainer.accelerator=cpu": (
        r"trainer\.strategy=deepspeed: .* Lightning's DeepSpeedStrategy; take auto, ddp"
    ),
    "trainer=fsdp3": "did you mean trainer=fsdp2",
    f"{SHARDS} trainer.strategy.reduce_each=epoch": (
        r"trainer\.strategy\.reduce_each=epoch: must be one of micro_batch, mini_batch"
    ),
    f"{SHARDS} trainer.strategy._target_=asym_lightning.sharding.FSDP2": (
        r"trainer\.strategy\._target_=asym_lightning\.sharding\.FSDP2: it has moved; "
        r"write asym_lightning\.learner\.fsdp\.FSDP2$"
    ),
    "logger=mlflow logger.mlflow._target_=asym_lightning.loggers.mlflow_logger": (
        r"it has moved; write asym_lightning\.runtime\.loggers\.mlflow_logger$"
    ),
    f"{SHARDS} trainer.precision=16-mixed": "does not support.*16-mixed",
    f"{SHARDS} trainer.precision=32-true trainer.strategy.param_dtype=bfloat16": (
        "take trainer.precision=bf16-mixed"
    ),
    "policy.optimizer.learning_rate=0": r"policy\.optimizer\.learning_rate=0",
    "policy.optimizer.betas=3": r"policy\.optimizer\.betas=3.*two numbers",
    "policy.prompts_per_mini_batch=5": r"policy\.prompts_per_mini_batch=5 does not divide",
    "policy=hf": r"error: policy\.path has no value; set it .*: policy\.path=VALUE",
    "policy=hf policy.path=./nowhere": "there is no such folder",
    "task=math task.path=null": (
        r"task\.path=None: must be a local \.parquet, \.jsonl or \.csv file or the id of a hub"
    ),
    "task=math task.path=none.jsonl benchmarks=[gsm9k]": "did you mean benchmarks=gsm8k",
    "benchmarks=[amc23] benchmarks.amc23.path=none.jsonl": (
        r"benchmarks\.amc23\.path=none\.jsonl is no file"
    ),
    "benchmarks=[amc23] benchmarks.amc23.verify.workers=1.5": (
        r"^error: benchmarks\.amc23\.verify\.workers=1\.5: must be a whole number >= 1$"
    ),
    "+benchmarks.mine=3": r"^error: benchmarks\.mine=3: must be a task \(conf/task\)",
    "+benchmarks.mine=null": r"^error: benchmarks\.mine=None: must be a task \(conf/task\)",
    "+benchmarks.mine._target_=asym_lightning.verify.math.MathVerifier": (
        r"^error: benchmarks\.mine=.*: must be a task \(conf/task\)"
    ),
    "task._target_=null": r"^error: task: Expected a callable target, got 'None'",
    "task=math task.path=none.jsonl task.limit=abc": (
        r"^error: task\.limit=abc: must be a whole number >= 1, or null$"
    ),
    "task=math task.path=none.jsonl task.chat_template=1": (
        r"^error: task\.chat_template=1: must be true or false$"
    ),
    "task=math task.path=none.jsonl task.plain_template=Q": (
        r"^error: task\.plain_template=Q: must be text with \{prompt\} where"
    ),
    "task=math task.path=none.jsonl task.verify=3": (
        r"^error: task\.verify=3: must be a verifier \(conf/verify\), which has .*, or null$"
    ),
    "task=math task.path=none.jsonl task.verify.timeout_s=nan": (
        r"^error: task\.verify\.timeout_s=nan: must be a finite number > 0$"
    ),
    "task=math verify@task.verify=composite task.verify.correctness.workers=0": (
        r"^error: task\.verify\.correctness\.workers=0: must be a whole number >= 1$"
    ),
    "task=math verify@task.verify=composite +task.verify.weights.style=1": (
        r"^error: task\.verify\.weights\.style: the key must be one of correctness, format, length$"
    ),
    "task=mixture": r"^error: task\.sources=\{\}: must be made of tasks, such as \+task@KEY",
    "+task@benchmarks.mine=mixture": r"^error: benchmarks\.mine\.sources=\{\}: must be made of",
    "task=mixture +task@task.sources.math=math task.sources.math.path=none.jsonl": (
        r"^error: task\.sources\.math\.path=none\.jsonl is no file"
    ),
    "task.seed=true": r"^error: task\.seed=True: must be a whole number >= 0$",
    "data=3": r"^error: data=3: must be made of keys: max_prompt_tokens, drop_duplicates",
    "data.max_prompt_tokens=true": (
        r"^error: data\.max_prompt_tokens=True: must be a whole number >= 1, or null$"
    ),
    "data.overlap_words=null": r"^error: data\.overlap_words=None: must be a whole number >= 1$",
    "data.max_prompt_tokens=3": (
        r"train: every prompt is too long: .* has \d+ tokens and at most 3 fit"
    ),
    "data.drop_overlap=yes": r"data\.drop_overlap=yes: must be one of exact, passage, or null",
    "data.difficulty.min_accuracy=-0.1": (
        r"data\.difficulty\.min_accuracy=-0\.1: must be a finite number >= 0 and <= 1"
    ),
    "data.difficulty.max_accuracy=x": r"data\.difficulty\.max_accuracy=x: must be a finite number",
    "data.difficulty.min_accuracy=0.9 data.difficulty.max_accuracy=0.1": (
        r"min_accuracy=0\.9 must be below max_accuracy=0\.1"
    ),
    "data.difficulty.groups=0": r"data\.difficulty\.groups=0: must be a whole number >= 1",
    "data.difficulty.retry_share=2": r"data\.difficulty\.retry_share=2",
    "data.difficulty.after=1": "after",
    "+data.difficulty.after=1": (
        r"data\.difficulty\.after: there is no such key; its keys are min_accuracy, max_accuracy, "
        r"groups"
    ),
    "data.difficulty=3": r"data\.difficulty=3: must be made of keys: min_accuracy",
    "callbacks.evaluation.temperature=0": (
        r"callbacks\.evaluation\.temperature=0 is greedy.*samples=1"
    ),
    "callbacks.evaluation.samples={math500:3}": (
        r"callbacks\.evaluation\.samples has no number for heldout"
    ),
    "algo.equal_scale=flase": r"algo\.equal_scale=flase: must be true or false",
    "policy.compile=1": r"policy\.compile=1: must be true or false",
    "rollout.enforce_eager=no_": r"rollout\.enforce_eager=no_: must be true or false",
    "data.drop_duplicates=on_": r"data\.drop_duplicates=on_: must be true or false",
    "callbacks.evaluation.before=None": (
        r"callbacks\.evaluation\.before=None: must be true or false"
    ),
    "algo.rules.resample=x": r"algo\.rules\.resample=x: must be null or a Resample",
    "policy.logprob_gap_limit=-1": r"policy\.logprob_gap_limit=-1: must be a finite number > 0",
    "policy.lora=x": r"policy\.lora=x: must be made of keys",
    "lora=default policy.lora.target_modules=[q_prj]": (
        r"policy\.lora\.target_modules=\['q_prj'\]: .*not found"
    ),
    "lora=default policy.lora.target_modules=3": (
        r"policy\.lora\.target_modules=3: must be all-linear, or names"
    ),
    "lora=default policy.lora.alpha=0": (r"policy\.lora\.alpha=0: must be a finite number > 0"),
    "lora=default policy.lora.r=true": r"policy\.lora\.r=True: must be a whole number >= 1",
    "lora=default policy.lora.alpha=nan": r"policy\.lora\.alpha=nan: must be a finite number > 0",
    "policy.optimizer.betas=[0.9,1]": r"policy\.optimizer\.betas=\[0\.9, 1\].*two numbers",
    "+policy.optimizer.eps=-1": r"policy\.optimizer\.eps=-1: must be a finite number >= 0",
    "policy.optimizer.kind=sgd": r"policy\.optimizer\.kind=sgd: must be one of adamw, adamw_8bit",
    "rollout.placement=somewhere": r"rollout\.placement=somewhere: .* one of colocated, servers",
    "rollout.sleep=maybe": r"rollout\.sleep=maybe: must be true or false",
    "trainer.num_nodes=x": r"trainer\.num_nodes=x: must be a whole number >= 1",
    "rollout=2": r"rollout=2: must be one of servers, transformers, vllm",
    "trainer.precision=bf16-true": (
        r"trainer\.precision=bf16-true: must be one of 32-true, bf16-mixed"
    ),
    "+callbacks.checkpoint.monitor=eval/heldout/avg@3 callbacks.evaluation.every=50": (
        r"avg@3: must be one of eval/heldout"
    ),
    "trainer.devices=[2,3]": (
        r"trainer\.devices=\[2, 3\]: must be a number, or auto; CUDA_VISIBLE_DEVICES=2,3"
    ),
    "ckpt_path=-1": r"ckpt_path=-1: there is no such checkpoint",
    f"{ZERO} ckpt_path={ROOT / 'pyproject.toml'}": (
        r"ckpt_path=.*pyproject\.toml: trainer=deepspeed did not write it"
    ),
    f"{ZERO} trainer.strategy.stage=4": r"trainer\.strategy\.stage=4: must be one of 1, 2, 3",
    f"{ZERO} trainer.precision=16-mixed": (
        r"trainer\.precision=16-mixed: must be one of 32-true, bf16-mixed"
    ),
    "task=mixture +task@task.sources.sums=countdown task.sources.sums.seed=-1": (
        r"task\.sources\.sums\.seed=-1: must be a whole number >= 0"
    ),
    "policy.path=[1,2]": r"policy\.path=\[1, 2\]: must be a folder",
    "task.seed=x": r"task\.seed=x: must be a whole number >= 0",
    "callbacks.record=null": r"callbacks\.record is missing: it writes the metrics",
    "~callbacks.rollout": r"callbacks\.rollout is missing: it makes the rollouts",
    "+callbacks.mine._target_=no.such.Callback": r"callbacks\.mine: .*no\.such\.Callback",
    "+callbacks.ledger.shares=1": r"callbacks\.ledger\.shares: there is no such key",
    "callbacks.ledger.share=x": r"callbacks\.ledger\.share=x: must be a finite number > 0 and <= 1",
    "callbacks.ledger.every=0": r"callbacks\.ledger\.every=0: must be a whole number >= 1",
    "callbacks.dynamics.histogram_every=-1": (
        r"callbacks\.dynamics\.histogram_every=-1: must be a whole number >= 0"
    ),
    "callbacks.completions.every=0.5": (
        r"callbacks\.completions\.every=0\.5: must be a whole number >= 0"
    ),
    "callbacks.progress.print_every=0": (
        r"callbacks\.progress\.print_every=0: must be a whole number >= 1"
    ),
    "callbacks.record.save_rollouts_every=x": (
        r"callbacks\.record\.save_rollouts_every=x: must be a whole number >= 0"
    ),
    "+callbacks.record.every=1": r"callbacks\.record\.every: there is no such key",
    "+callbacks.rollout._target_=mine.Rollout": (
        r"callbacks\.rollout\._target_=mine\.Rollout: every run builds this part itself, as "
        r"callbacks\.vllm_rollout\.VLLMRollout; give a callback of your own another name"
    ),
    "callbacks.rollout.max_verify_errors=2": (
        r"callbacks\.rollout\.max_verify_errors=2: must be a finite number >= 0 and <= 1"
    ),
    "callbacks.watchdog.limit_s=0": r"callbacks\.watchdog\.limit_s=0: must be a finite number > 0",
    "callbacks.evaluation.every=x": r"callbacks\.evaluation\.every=x: must be a whole number >= 0",
    "callbacks.evaluation.problems=-1": (
        r"callbacks\.evaluation\.problems=-1: must be a whole number >= 0"
    ),
    "callbacks.checkpoint.every_n_epochs=-1": r"callbacks\.checkpoint: .*every_n_epochs",
    "+callbacks.checkpoint.monitor=eval/heldout/pass@1": (
        r"callbacks\.checkpoint\.monitor=.*every=0 iterations"
    ),
    "task=math task.path=none.parquet": r"task\.path=none\.parquet is no file",
    "task.heldout_share=0.5": r"task\.heldout_share=0\.5",
    "ckpt_path=none.ckpt": r"ckpt_path=none\.ckpt",
    "foo": "foo",
    "task.path=/data/a=b.jsonl": (
        r"the argument task\.path=/data/a=b\.jsonl cannot be read: .*"
        r"quote it: \"task\.path='/data/a=b\.jsonl'\"$"
    ),
    "policy.path=~/models/mine": r"quote it: \"policy\.path='~/models/mine'\"$",
    "rollout.stop=[-1]": r"rollout\.stop=-1: must be the id of a token below \d+, or a text",
    "rollout.stop=['####']": r"rollout\.stop=####: .* one token; it is 4 tokens: \[",
    "seed=[1,": "seed|input",
    "-m seed=1,2 algo=grpo,nothing": "unknown algo 'nothing'",
    "-m algo.advantage.beta_pos=0.5,-2": r"beta_pos=-2",
    "-m algo.advantage.beta_pos=interval(0,1)": "does not support sweep type",
    "-m trainer.num_nodes=2": r"trainer\.num_nodes=2: a run of a sweep stays on one node",
    f"-m {SHARDS} hydra/launcher=submitit_local": (
        r"trainer\.devices=auto: a job has to ask for its GPUs by number"
    ),
    "sweep=paper_tabel": "did you mean sweep=paper_table",
    "-m sweep=exponents,paper_table": "sweep: name one file",
    "sweep=exponents seed=1 algo.advantage.beta_neg=0.4,-1": r"beta_neg=-1",
    "sweep=optuna_exponents algo.advantage.beta_pos=interval(-0.5,1)": r"beta_pos=-0\.5",
    "sweep=optuna_exponents callbacks.evaluation.problems=0": (
        r"objective=eval/heldout/pass@8: must be one of reward"
    ),
    "objective=pass@8": r"objective=pass@8: must be one of reward, .*eval/heldout/pass@8",
    "rollout.tensor_parallel_size=2": r"size=2 does not divide the number of ranks of this run, 1;",
    f"{RANKS.format(3)} rollout.tensor_parallel_size=3": (
        r"tensor_parallel_size=3 does not divide the num_attention_heads=4"
    ),
    "rollout.sleep=true rollout.engine=transformers": (
        r"rollout\.sleep=true: only vLLM on the policy's own GPU"
    ),
    "rollout=servers rollout.tensor_parallel_size=2": (
        r"tensor_parallel_size=2: only engines of the ranks are shared"
    ),
    f"{RANKS.format(2)} rollout=transformers rollout.tensor_parallel_size=2": (
        r"only rollout\.engine=vllm divides layers"
    ),
    "logger=wandb": (
        r"no account is known here; run `wandb login`, set WANDB_API_KEY, or "
        r".*logger\.wandb\.offline=true"
    ),
}
