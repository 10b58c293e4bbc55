# /// script
# requires-python = ">=3.11"
# dependencies = ["gymnax==0.0.9", "six==1.17.0", "flax==0.12.8", "optax==0.2.8", "jax==0.10.1", "jaxlib==0.10.1"]
# ///
"""PPO as one plain scan over rollouts, the program that PureJaxRL made usual (Lu et al. 2022, arXiv 2210.05639).

PureJaxRL is not on PyPI. This is not its code but a loop written anew that does what its PPO does for every frame:
gymnax's own reset after every step, a wrapper that logs returns, a key for every step of every environment, a random
permutation for every pass, Adam leaf by leaf with a clipped norm and a falling rate, and what the wrapper logs of every
frame returned at the end. The driver runs this, see ``__main__.py``.

By hand, from the checkout: ``PYTHONPATH=. uv run --script benchmarks/peers/plain_ppo.py --num-envs 4``
"""

import time
from importlib.metadata import version
from typing import Any

from benchmarks.peers.protocol import Task, answer, parse


def settings(task: Task) -> dict[str, Any]:
    """What `make_train` is told: the work of ``task``, and PureJaxRL's values for CartPole."""
    return {
        "env_id": task.env_id,
        "num_envs": task.num_envs,
        "rollout_length": task.rollout_length,
        "epochs": task.epochs,
        "num_minibatches": task.num_minibatches,
        "hidden_sizes": task.hidden_sizes,
        "rollouts": task.frames // (task.num_envs * task.rollout_length),
        "learning_rate": 2.5e-4,
        "gamma": 0.99,
        "gae_lambda": 0.95,
        "clip_range": 0.2,
        "clip_values": True,
        "entropy_coefficient": 0.01,
        "value_coefficient": 0.5,
        "max_gradient_norm": 0.5,
    } | task.hyperparameters


def make_train(
    env_id,
    num_envs,
    rollout_length,
    epochs,
    num_minibatches,
    hidden_sizes,
    rollouts,
    learning_rate,
    gamma,
    gae_lambda,
    clip_range,
    entropy_coefficient,
    value_coefficient,
    max_gradient_norm,
    clip_values,
):
    """``train(key) -> (parameters, log)``; every array of the log is ``[rollouts, rollout_length, num_envs]``."""
    import flax.linen as nn
    import gymnax
    import jax
    import jax.numpy as jnp
    import optax

    env, env_params = gymnax.make(env_id)
    num_actions = env.action_space(env_params).n
    batch_size = num_envs * rollout_length

    class PolicyAndValue(nn.Module):
        @nn.compact
        def __call__(self, obs):
            def network(out, scale):
                x = obs
                for size in hidden_sizes:
                    x = nn.tanh(nn.Dense(size, kernel_init=nn.initializers.orthogonal(2**0.5))(x))
                return nn.Dense(out, kernel_init=nn.initializers.orthogonal(scale))(x)

            return nn.log_softmax(network(num_actions, 0.01)), network(1, 1.0)[..., 0]

    network = PolicyAndValue()
    updates = rollouts * epochs * num_minibatches
    optimizer = optax.chain(
        optax.clip_by_global_norm(max_gradient_norm),
        optax.adam(optax.linear_schedule(learning_rate, 0.0, updates), eps=1e-5),
    )

    def log_of(log, reward, done):
        """The sums of the running episodes, and those of the last ended ones, one step on."""
        total, length, last_total, last_length, steps = log
        total, length = total + reward, length + 1
        last_total, last_length = jnp.where(done, total, last_total), jnp.where(done, length, last_length)
        return jnp.where(done, 0.0, total), jnp.where(done, 0, length), last_total, last_length, steps + 1

    def act(loop, _):
        params, env_state, log, obs, key = loop
        key, key_action, key_step = jax.random.split(key, 3)
        log_probs, value = network.apply(params, obs)
        action = jax.random.categorical(key_action, log_probs)
        log_prob = jnp.take_along_axis(log_probs, action[:, None], -1)[:, 0]
        keys = jax.random.split(key_step, num_envs)
        new_obs, env_state, reward, done, _ = jax.vmap(env.step, (0, 0, 0, None))(keys, env_state, action, env_params)
        log = log_of(log, reward, done)
        row = {"obs": obs, "action": action, "log_prob": log_prob, "value": value, "reward": reward, "done": done}
        return (params, env_state, log, new_obs, key), (row, (*log[2:], done))

    def advantages_of(rollout, last_value):
        def back(after, row):
            advantage, next_value = after
            going_on = 1.0 - row["done"]
            delta = row["reward"] + gamma * next_value * going_on - row["value"]
            advantage = delta + gamma * gae_lambda * going_on * advantage
            return (advantage, row["value"]), advantage

        start = (jnp.zeros_like(last_value), last_value)
        return jax.lax.scan(back, start, rollout, reverse=True, unroll=16)[1]

    def loss(params, batch):
        log_probs, value = network.apply(params, batch["obs"])
        log_prob = jnp.take_along_axis(log_probs, batch["action"][:, None], -1)[:, 0]
        error = (value - batch["target"]) ** 2
        if clip_values:
            near = batch["value"] + jnp.clip(value - batch["value"], -clip_range, clip_range)
            error = jnp.maximum(error, (near - batch["target"]) ** 2)
        advantage = batch["advantage"]
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        ratio = jnp.exp(log_prob - batch["log_prob"])
        gain = jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - clip_range, 1 + clip_range) * advantage)
        entropy = -(jnp.exp(log_probs) * log_probs).sum(-1)
        value_loss = 0.5 * error.mean()
        total = -gain.mean() + value_coefficient * value_loss - entropy_coefficient * entropy.mean()
        return total, (value_loss, -gain.mean(), entropy.mean())

    def learn(learner, batch):
        params, opt_state = learner
        (total, parts), gradient = jax.value_and_grad(loss, has_aux=True)(params, batch)
        step, opt_state = optimizer.update(gradient, opt_state, params)
        return (optax.apply_updates(params, step), opt_state), (total, parts)

    def pass_over(loop, _):
        learner, batch, key = loop
        key, key_order = jax.random.split(key)
        order = jax.random.permutation(key_order, batch_size)
        dealt = jax.tree.map(lambda x: x[order].reshape(num_minibatches, -1, *x.shape[1:]), batch)
        learner, losses = jax.lax.scan(learn, learner, dealt)
        return (learner, batch, key), losses

    def iterate(loop, _):
        (params, opt_state), env_state, log, obs, key = loop
        (_, env_state, log, obs, key), (rollout, logged) = jax.lax.scan(
            act, (params, env_state, log, obs, key), length=rollout_length
        )
        advantage = advantages_of(rollout, network.apply(params, obs)[1])
        batch = rollout | {"advantage": advantage, "target": advantage + rollout["value"]}
        batch = jax.tree.map(lambda x: x.reshape(batch_size, *x.shape[2:]), batch)
        (learner, _, key), _ = jax.lax.scan(pass_over, ((params, opt_state), batch, key), length=epochs)
        return (learner, env_state, log, obs, key), logged

    def train(key):
        key, key_params, key_reset = jax.random.split(key, 3)
        obs, env_state = jax.vmap(env.reset, (0, None))(jax.random.split(key_reset, num_envs), env_params)
        params = network.init(key_params, obs)
        zeros, none = jnp.zeros(num_envs), jnp.zeros(num_envs, jnp.int32)
        start = ((params, optimizer.init(params)), env_state, (zeros, none, zeros, none, none), obs, key)
        (learner, *_), log = jax.lax.scan(iterate, start, length=rollouts)
        return learner[0], log

    return train


def main():
    task = parse()
    began = time.perf_counter()
    import jax

    chosen = settings(task)
    train = make_train(**chosen)
    imported = time.perf_counter()
    key = jax.random.key(task.seed)
    program = jax.jit(train).lower(key).compile()
    compiled = time.perf_counter()
    _, (totals, *_) = jax.block_until_ready(program(key))
    answer(
        frames=totals.size,
        run_seconds=time.perf_counter() - compiled,
        import_seconds=imported - began,
        compile_seconds=compiled - imported,
        last_return=float(totals[-1].mean()),
        versions={name: version(name) for name in ("gymnax", "flax", "optax", "jax", "jaxlib")},
    )


if __name__ == "__main__":
    main()
