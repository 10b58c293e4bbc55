# /// script
# requires-python = ">=3.11"
# dependencies = ["rejax==0.1.3", "gymnax==0.0.9", "jax==0.10.1", "jaxlib==0.10.1"]
# ///
"""rejax's PPO, told and timed as ours is. The driver runs this, see ``__main__.py``.

By hand, from the checkout:
``PYTHONPATH=. uv run --script benchmarks/peers/rejax_ppo.py --num-envs 64 --rollout-length 64 --epochs 8``
"""

import time
from importlib.metadata import version
from typing import Any

from benchmarks.peers.protocol import Task, answer, parse, solve


def settings(task: Task, frames):
    """What makes ``rejax.PPO.create`` do the work of ``task`` for some frames, without evaluation."""
    return {
        "env": task.env_id,
        "num_envs": task.num_envs,
        "num_steps": task.rollout_length,
        "num_epochs": task.epochs,
        "num_minibatches": task.num_minibatches,
        "agent_kwargs": {"hidden_layer_sizes": task.hidden_sizes, "activation": "tanh"},
        "total_timesteps": frames,
        "eval_freq": frames,
        "skip_initial_evaluation": True,
    } | task.hyperparameters


def main():
    task = parse()
    began = time.perf_counter()
    import jax
    import rejax
    from rejax.evaluate import evaluate

    imported = time.perf_counter()
    piece = task.rollouts_per_piece * task.num_envs * task.rollout_length
    ppo = rejax.PPO.create(**settings(task, task.frames if task.threshold is None else piece))
    ppo = ppo.replace(eval_callback=lambda *_: ())
    key, key_evaluate = jax.random.split(jax.random.key(task.seed))
    init = jax.jit(ppo.init_state).lower(key).compile()
    # Every trace of `init_state` makes another class of states.
    advance = jax.jit(lambda state: ppo.train(train_state=state)[0]).lower(init(key)).compile()
    compiled = time.perf_counter()
    about = {
        "import_seconds": imported - began,
        "compile_seconds": compiled - imported,
        "versions": {name: version(name) for name in ("rejax", "jax", "jaxlib", "gymnax")},
    }

    if task.threshold is None:
        result = jax.block_until_ready(advance(init(key)))
        answer(frames=int(result.global_step), run_seconds=time.perf_counter() - compiled, **about)
        return

    @jax.jit
    def returns(state, key):
        def act(obs, key):
            return ppo.actor.apply(state.actor_ts.params, obs[None], method="_action_dist").mode()[0]

        most = ppo.env_params.max_steps_in_episode
        return evaluate(act, key, ppo.env, ppo.env_params, task.episodes, most)[1]

    state: Any = None

    def train_piece():
        nonlocal state
        state = jax.block_until_ready(advance(init(key) if state is None else state))
        return int(state.global_step)

    def mean_return():
        return float(returns(state, jax.random.fold_in(key_evaluate, state.global_step)).mean())

    answer(**solve(train_piece, mean_return, task), **about)


if __name__ == "__main__":
    main()
