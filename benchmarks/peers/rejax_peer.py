# /// script
# requires-python = ">=3.11"
# dependencies = ["rejax==0.1.3", "gymnax==0.0.9", "jax==0.10.1", "jaxlib==0.10.1"]
# ///
"""rejax's PPO, DQN and SAC, told and timed as ours are. The driver runs this, see ``__main__.py``.

By hand, from the checkout:
``PYTHONPATH=. uv run --script benchmarks/peers/rejax_peer.py --algorithm dqn --num-envs 10 --rollout-length 1``
"""

import time
from importlib.metadata import version
from typing import Any

from benchmarks.peers.protocol import Task, answer, parse, solve

DQN_SIZES = (64, 64)  # rejax 0.1.3 accepts no others


def settings(task: Task, frames):
    """What makes rejax's ``create`` do the work of ``task`` for some frames, without evaluation.

    Its DQN and SAC take one step of all environments between two bursts of gradient steps, which it calls epochs.
    """
    assert task.algorithm != "dqn" or task.hidden_sizes == DQN_SIZES
    replayed = {
        "num_epochs": task.updates,
        "batch_size": task.batch_size,
        "buffer_size": task.replay_size,
        "fill_buffer": task.learning_starts,
    }
    own: dict[str, Any] = {
        "ppo": {
            "num_steps": task.rollout_length,
            "num_epochs": task.epochs,
            "num_minibatches": task.num_minibatches,
            "agent_kwargs": {"hidden_layer_sizes": task.hidden_sizes, "activation": "tanh"},
        },
        "dqn": replayed | {"agent_kwargs": {"activation": "relu"}},
        "sac": replayed | {"hidden_layer_sizes": task.hidden_sizes, "agent_kwargs": {"activation": "relu"}},
    }
    return {
        "env": task.env_id,
        "num_envs": task.num_envs,
        **own[task.algorithm],
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
    kind = {"ppo": rejax.PPO, "dqn": rejax.DQN, "sac": rejax.SAC}[task.algorithm]
    agent = kind.create(**settings(task, task.frames if task.threshold is None else piece))
    agent = agent.replace(eval_callback=lambda *_: ())
    key, key_evaluate = jax.random.split(jax.random.key(task.seed))
    init = jax.jit(agent.init_state).lower(key).compile()
    # Every trace of `init_state` makes another class of states.
    advance = jax.jit(lambda state: agent.train(train_state=state)[0]).lower(init(key)).compile()
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
            return agent.actor.apply(state.actor_ts.params, obs[None], method="_action_dist").mode()[0]

        most = agent.env_params.max_steps_in_episode
        return evaluate(act, key, agent.env, agent.env_params, task.episodes, most)[1]

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
