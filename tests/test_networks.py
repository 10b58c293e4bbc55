import os
import subprocess
import sys
import typing
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxrl_a3c import networks
from purejaxrl_a3c.checks import InputError
from purejaxrl_a3c.config import field_types, replace
from purejaxrl_a3c.envs import spaces
from purejaxrl_a3c.networks.distributions import DiagGaussian, TanhGaussian
from purejaxrl_a3c.networks.initializers import orthogonal
from purejaxrl_a3c.networks.make import CORES
from purejaxrl_a3c.networks.torsos import ACTIVATIONS, TORSOS
from purejaxrl_a3c.types import ActionSpace, Env, EnvState, Key, Observation, TimeStep


def env_of(shape: tuple[int, ...] = (5,), action_space: ActionSpace = spaces.Discrete(3)) -> Env:  # noqa: B008
    """An environment of which a network needs only the shapes."""

    def reset(key: Key) -> tuple[EnvState, Observation]:
        raise NotImplementedError

    def step(key: Key, state: EnvState, action: jax.Array) -> tuple[EnvState, TimeStep]:
        raise NotImplementedError

    return Env(reset, step, shape, action_space)


def make(env=env_of(), **changes):  # noqa: B008
    return env, networks.make(replace(networks.Config(), **({"hidden_sizes": (8, 8)} | changes)), env)


@pytest.mark.parametrize(
    ("field", "accepted"), [("activation", ACTIVATIONS), ("core", CORES), ("torso", ["mlp", *TORSOS])]
)
def test_the_config_accepts_the_names_of_all_parts_that_there_are(field, accepted):
    annotation = field_types(networks.BodyConfig)[field]
    while typing.get_origin(annotation) is not typing.Literal:
        annotation = typing.get_args(annotation)[0]
    assert sorted(typing.get_args(annotation)) == sorted(accepted)


@pytest.mark.parametrize("shape", [(64, 64), (4, 64), (64, 2), (64, 1)])
def test_orthogonal_matrices_are_orthogonal_also_when_vmapped(shape):
    init = orthogonal(3.0)
    keys = jax.random.split(jax.random.key(0), 3)
    matrices = jax.vmap(lambda key: init(key, shape))(keys)
    for key, matrix in zip(keys, matrices, strict=True):
        np.testing.assert_array_equal(matrix, init(key, shape))
        narrow = matrix if shape[0] >= shape[1] else matrix.T
        np.testing.assert_allclose(narrow.T @ narrow, 9.0 * np.eye(min(shape)), atol=1e-4)


def test_no_qr_is_batched_under_vmap():
    keys = jax.random.split(jax.random.key(0), 3)
    program = jax.make_jaxpr(jax.vmap(lambda key: orthogonal(1.0)(key, (8, 8))))(keys)
    shapes = [
        equation.invars[0].aval.shape
        for equation in _equations(program.jaxpr)
        if equation.primitive.name in ("qr", "geqrf", "householder_product")
    ]
    assert shapes
    assert all(len(shape) == 2 or shape[0] == 1 for shape in shapes)


def _equations(jaxpr):
    for equation in jaxpr.eqns:
        yield equation
        for parameter in jax.tree.leaves(equation.params, is_leaf=lambda x: hasattr(x, "eqns") or hasattr(x, "jaxpr")):
            inner = getattr(parameter, "jaxpr", parameter)
            if hasattr(inner, "eqns"):
                yield from _equations(inner)


# On jaxlib 0.10 a batched QR deadlocks now and then, so each of three processes tries 20 times. It happens with two
# cores, so the process keeps two of the machine's.
MANY_SEEDS = """
import os
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
import jax
from purejaxrl_a3c import a3c, make_train
from purejaxrl_a3c.config import replace
config = replace(a3c.Config(), num_workers=2, envs_per_worker=1, rollout_length=2, total_frames=8)
train = jax.jit(jax.vmap(make_train(config)))
for seed in range(20):
    result = jax.block_until_ready(train(jax.random.split(jax.random.key(seed), 24)))
print(result.metrics.frames.shape)
"""


@pytest.mark.parametrize("attempt", [0, *(pytest.param(attempt, marks=pytest.mark.slow) for attempt in (1, 2))])
def test_training_many_seeds_at_once_does_not_deadlock(attempt):
    program = subprocess.run(
        [sys.executable, "-c", MANY_SEEDS], capture_output=True, text=True, timeout=180, check=False
    )
    assert program.returncode == 0, program.stderr
    assert program.stdout.strip() == "(24, 2)"


@pytest.mark.parametrize("shared_torso", [False, True])
def test_a_rollout_in_one_call_equals_step_by_step(shared_torso):
    env, network = make(shared_torso=shared_torso)
    params = network.init(jax.random.key(0))
    obs = jax.random.normal(jax.random.key(1), (3, 4, *env.observation_shape))
    first = jnp.zeros((3, 4), bool)
    carry = jax.tree.map(lambda x: jnp.stack([x] * 3), network.carry())
    _, together = network.unroll(params, carry, obs, first)
    assert together.value.shape == (3, 4)
    for b in range(3):
        for t in range(4):
            _, one = network.step(params, network.carry(), obs[b, t], first[b, t])
            np.testing.assert_allclose(one.value, together.value[b, t], rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(one.policy.logits, together.policy.logits[b, t], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shared_torso", [False, True])
def test_policy_and_value_share_the_torso_only_if_asked_to(shared_torso):
    env, network = make(shared_torso=shared_torso)
    params = network.init(jax.random.key(0))
    obs = jax.random.normal(jax.random.key(1), env.observation_shape)
    value_gradient = jax.grad(lambda params: network.step(params, network.carry(), obs, False)[1].value)(params)
    policy_body = value_gradient["body" if shared_torso else "policy_body"]
    moved = any(bool((leaf != 0).any()) for leaf in jax.tree.leaves(policy_body))
    assert moved == shared_torso
    assert ("value_body" in value_gradient) != shared_torso


@pytest.mark.parametrize("head", ["logits", "loc"])
def test_a_network_without_hidden_layers_is_linear_in_the_flattened_observation(head):
    env = env_of((2, 3), spaces.Discrete(4) if head == "logits" else spaces.Continuous(4))
    _, network = make(env, hidden_sizes=(), layer_norm=True)
    params = network.init(jax.random.key(0))
    obs = jax.random.normal(jax.random.key(1), (2, 5, *env.observation_shape))
    _, outputs = network.unroll(params, (), obs, jnp.zeros((2, 5), bool))
    flat = np.asarray(obs).reshape(2, 5, 6)
    for layer, output in [
        (params["policy_head"]["params"][head], getattr(outputs.policy, head)),
        (params["value_head"]["params"], outputs.value[..., None]),
    ]:
        expected = flat @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])
        np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-5)


UNSQUASHABLE: dict[str, ActionSpace] = {
    "discrete": spaces.Discrete(3),
    "several choices": spaces.MultiDiscrete((2, 3)),
    "unbounded": spaces.Continuous(2, bounded=False),
    "partly bounded": spaces.continuous([True, False]),
}


@pytest.mark.parametrize("name", UNSQUASHABLE)
def test_squashing_actions_without_bounds_is_refused(name):
    env = env_of((5,), UNSQUASHABLE[name])
    with pytest.raises(InputError, match="squash_actions: True"):
        make(env, squash_actions=True)
    # Sweeps may set the scale of a Gaussian for every environment.
    make(env, state_dependent_scale=True, initial_scale=0.3)


def test_bounded_actions_are_squashed_if_asked_to():
    for squash_actions, kind in [(False, DiagGaussian), (True, TanhGaussian)]:
        _, network = make(env_of((5,), spaces.Continuous(2)), squash_actions=squash_actions)
        step = jax.eval_shape(
            lambda key, network=network: network.step(network.init(key), (), jnp.zeros(5), True), jax.random.key(0)
        )
        assert isinstance(step[1].policy, kind)


def test_an_action_space_of_another_class_is_refused():
    unknown: Any = 3
    with pytest.raises(InputError, match="action_space"):
        make(env_of()._replace(action_space=unknown))


# In a process of its own, because arrays that are made at import must be right, too.
X64 = """
import warnings
import flax.linen as nn
import jax
import jax.numpy as jnp
from purejaxrl_a3c.envs import spaces
from test_networks import env_of, make
warnings.simplefilter("error")

class Float64Torso(nn.Module):
    @nn.compact
    def __call__(self, x):
        return x @ self.param("weights", nn.initializers.normal(1.0), (x.shape[-1], 3))

def use(network, key, obs):
    first = jnp.zeros(obs.shape[:2], bool)
    noise = network.noise(key, jnp.arange(first.size, dtype=jnp.int32).reshape(first.shape))
    carry = jax.tree.map(lambda x: jnp.stack([x] * len(obs)), network.carry())

    def loss(params):
        end, outputs = network.unroll(params, carry, obs, first)
        policy = outputs.policy
        action = policy.sample(noise)
        numbers = policy.log_prob(action), policy.entropy(), policy.kl(policy), outputs.value
        actions = action, policy.to_env_action(action), policy.mode()
        return sum(x.sum() for x in numbers), (end, outputs, actions, numbers)

    params = network.init(key)
    step = network.step(params, network.carry(), obs[0, 0], jnp.bool_(True))
    return params, noise, step, jax.value_and_grad(loss, has_aux=True)(params)

def check(network, env, run=jax.eval_shape):
    obs = jnp.ones((2, 3, *env.observation_shape), jnp.float32)
    for path, leaf in jax.tree_util.tree_leaves_with_path(run(lambda key: use(network, key, obs), jax.random.key(0))):
        assert leaf.dtype in (jnp.float32, jnp.int32), (jax.tree_util.keystr(path), leaf.dtype)

assert jnp.zeros(()).dtype == jnp.float64
gaussian = spaces.Continuous(2)
cases = [
    (env_of(), {"core": "lstm", "num_cells": 4}),
    (env_of(), {"core": "gru", "num_cells": 4, "layer_norm": True}),
    (env_of(), {"core": "min_gru", "num_cells": 4}),
    (env_of(), {"core": "lru", "num_cells": 4}),
    (env_of(), {"core": "transformer", "num_cells": 4}),
    (env_of((5,), spaces.MultiDiscrete((2, 3))), {}),
    (env_of((5,), gaussian), {}),
    (env_of((5,), gaussian), {"state_dependent_scale": True, "initial_scale": jnp.float64(0.3)}),
    (env_of((36, 36, 1)), {"torso": "nature"}),
    (env_of((8, 8, 1)), {"torso": "impala"}),
    (env_of(), {"torso": Float64Torso()}),
]
for env, changes in cases:
    check(make(env, shared_torso=True, **changes)[1], env)
env, network = make(env_of((5,), gaussian), core="lstm", num_cells=4, squash_actions=True)
check(network, env, lambda function, key: jax.jit(function)(key))
print("checked")
"""


def test_everything_stays_float32_where_float64_is_enabled():
    environment = os.environ | {"JAX_ENABLE_X64": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    program = subprocess.run(
        [sys.executable, "-c", X64], capture_output=True, text=True, timeout=300, check=False, env=environment
    )
    assert program.returncode == 0, program.stderr
    assert program.stdout.strip() == "checked"
