from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_networks import env_of

from purejaxrl_a3c import a2c, evaluate, make_train, networks
from purejaxrl_a3c.backend.convolution import convolve as fast_convolve
from purejaxrl_a3c.checks import InputError
from purejaxrl_a3c.config import replace
from purejaxrl_a3c.networks.torsos import MLP, TORSOS, Convolution

SMALL = replace(networks.Config(), hidden_sizes=(4,))


def convolve(dense, x, size, stride, padding):
    """The convolution that flax computes with the weights of a `Convolution`."""
    kernel = dense["kernel"].reshape(size, size, x.shape[-1], -1)
    layer = nn.Conv(kernel.shape[-1], (size, size), (stride, stride), padding)
    return layer.apply({"params": {"kernel": kernel, "bias": dense["bias"]}}, x)


def random_params(network, *example):
    """Parameters of the types that ``network.init`` gives; no weight or bias is 0."""
    rng = np.random.default_rng(0)
    types = jax.eval_shape(network.init, jax.random.key(0), *example)
    return jax.tree.map(lambda x: rng.normal(size=x.shape, scale=0.3).astype(np.float32), types)


WINDOWS = [((2, 3), size, stride) for size, stride in [(1, 1), (3, 1), (3, 2), (2, 2), (4, 4), (8, 4)]]


@pytest.mark.parametrize("as_product", [False, True])
@pytest.mark.parametrize("padding", ["VALID", "SAME"])
@pytest.mark.parametrize(("leading", "size", "stride"), [*WINDOWS, ((), 3, 2), ((3,), 3, 2)])
def test_a_convolution_equals_flaxs_own(leading, size, stride, padding, as_product):
    x = np.random.default_rng(1).normal(size=(*leading, 11, 8, 3)).astype(np.float32)
    layer = Convolution(5, size, stride, padding, as_product)
    params = random_params(layer, x)
    mine, expected = jax.jit(lambda x: (layer.apply(params, x), convolve(params["params"], x, size, stride, padding)))(
        x
    )
    assert mine.shape == expected.shape
    np.testing.assert_allclose(mine, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("seeds", "count"), [(None, 2), (3, 2), (None, 130), (3, 130)])
@pytest.mark.parametrize(("size", "stride"), [(1, 1), (3, 1), (3, 2), (2, 2), (4, 4), (8, 4), (5, 3)])
def test_the_gradients_of_a_convolution_are_those_that_jax_derives(size, stride, seeds, count):
    rng = np.random.default_rng(2)
    leading = () if seeds is None else (seeds,)
    images, kernel = (
        rng.normal(size=(*leading, *x)).astype(np.float32) for x in ((count, 11, 9, 3), (size, size, 3, 5))
    )
    weights = rng.normal(size=_jaxs(images, kernel, stride, seeds).shape)

    def gradients(function):
        return jax.jit(jax.grad(lambda *x: (weights * function(*x)).sum(), (0, 1)))(images, kernel)

    found = gradients(lambda *x: _mapped(lambda *one: fast_convolve(*one, stride), seeds)(*x))
    expected = gradients(lambda images, kernel: _jaxs(images, kernel, stride, seeds))
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=5e-4)


def _mapped(function, seeds):
    return function if seeds is None else jax.vmap(function)


def _jaxs(images, kernel, stride, seeds):
    def one(images, kernel):
        layout = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(images, kernel, (stride,) * 2, "VALID", dimension_numbers=layout)

    return _mapped(one, seeds)(images, kernel)


def test_convolutions_mapped_over_their_weights_are_each_their_own_and_no_grouped_convolution():
    layer = Convolution(5, 3, 2, "SAME", as_product=True)
    x = np.random.default_rng(1).normal(size=(4, 2, 9, 8, 3)).astype(np.float32)
    params = jax.tree.map(lambda x: np.stack([x, -x, 2 * x, x[..., ::-1]]), random_params(layer, x[0]))
    mapped = jax.vmap(layer.apply)
    together = jax.jit(mapped)(params, x)
    for i in range(4):
        one = jax.tree.map(lambda x, i=i: x[i], params["params"])
        np.testing.assert_allclose(together[i], convolve(one, x[i], 3, 2, "SAME"), rtol=1e-4, atol=1e-5)
    assert "conv_general_dilated" not in str(jax.make_jaxpr(mapped)(params, x))


# Height, width and channels before the fully connected layers, as they follow from the papers' layers.
FEATURES = {
    ("minatar", (10, 10, 4)): (8, 8, 16),
    ("minatar", (10, 10, 7)): (8, 8, 16),
    ("nips", (84, 84, 4)): (9, 9, 32),
    ("nature", (84, 84, 4)): (7, 7, 64),
    ("impala", (64, 64, 3)): (8, 8, 32),
    ("impala", (72, 96, 3)): (9, 12, 32),
}


@pytest.mark.parametrize(("name", "shape"), FEATURES)
@pytest.mark.parametrize("leading", [(), (2, 3)])
def test_the_features_of_image_torsos_have_the_papers_shapes(name, shape, leading):
    def features(hidden_sizes):
        torso = TORSOS[name](hidden_sizes, "relu", False)
        x = jnp.zeros((*leading, *shape))
        return jax.eval_shape(lambda: torso.init_with_output(jax.random.key(0), x)[0]).shape

    assert features(()) == (*leading, np.prod(FEATURES[name, shape]))
    assert features((17, 5)) == (*leading, 5)


def dense(params, x):
    return np.asarray(x) @ np.asarray(params["kernel"]) + np.asarray(params["bias"])


def reference_layers(params, x, layers):
    for i, (_, size, stride) in enumerate(layers):
        x = nn.relu(convolve(params[f"Convolution_{i}"], x, size, stride, "VALID"))
    return x


def reference_impala(params, x):
    convolutions = (params[f"Convolution_{i}"] for i in range(15))
    for _ in range(3):
        x = convolve(next(convolutions), x, 3, 1, "SAME")
        x = nn.max_pool(x, (3, 3), (2, 2), "SAME")
        for _ in range(2):
            block = convolve(next(convolutions), nn.relu(x), 3, 1, "SAME")
            x = x + convolve(next(convolutions), nn.relu(block), 3, 1, "SAME")
    return nn.relu(x)


REFERENCES: dict[str, tuple[tuple[int, ...], Callable[[Any, Any], Any]]] = {
    "minatar": ((10, 10, 4), lambda params, x: reference_layers(params, x, [(16, 3, 1)])),
    "nips": ((28, 36, 2), lambda params, x: reference_layers(params, x, [(16, 8, 4), (32, 4, 2)])),
    "nature": ((40, 36, 2), lambda params, x: reference_layers(params, x, [(32, 8, 4), (64, 4, 2), (64, 3, 1)])),
    "impala": ((16, 11, 3), reference_impala),
}


@pytest.mark.parametrize("as_product", [False, True])
@pytest.mark.parametrize("name", REFERENCES)
def test_image_torsos_equal_their_layers_one_by_one(name, as_product):
    shape, reference = REFERENCES[name]
    torso = TORSOS[name]((6,), "relu", False, as_product=as_product)
    x = np.random.default_rng(1).normal(size=(2, *shape)).astype(np.float32)
    params = random_params(torso, x)
    mine, expected = jax.jit(lambda x: (torso.apply(params, x), reference(params["params"], x)))(x)
    expected = np.maximum(dense(params["params"]["MLP_0"]["Dense_0"], expected.reshape(2, -1)), 0)
    assert (expected > 0).any()
    np.testing.assert_allclose(mine, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_fully_connected_layers_are_normalised_before_their_activation_if_asked_for(layer_norm, activation):
    torso = MLP(2, (7, 5), activation, layer_norm)
    obs = np.random.default_rng(1).normal(size=(3, 4, 2, 3)).astype(np.float32)
    params = random_params(torso, obs)
    assert ("LayerNorm_0" in params["params"]) == layer_norm
    x = obs.reshape(3, 4, 6)
    for i in range(2):
        x = dense(params["params"][f"Dense_{i}"], x)
        if layer_norm:
            norm = params["params"][f"LayerNorm_{i}"]
            x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
            x = x * norm["scale"] + norm["bias"]
        x = np.tanh(x) if activation == "tanh" else np.maximum(x, 0)
    np.testing.assert_allclose(jax.jit(torso.apply)(params, obs), x, rtol=1e-4, atol=1e-5)


def test_images_of_bytes_are_scaled_to_one():
    config = replace(SMALL, torso="minatar")
    env = env_of((5, 5, 2))
    network = networks.make(config, env)
    params = random_params(network)
    obs = jax.random.randint(jax.random.key(1), env.observation_shape, 0, 256).astype(jnp.uint8)
    _, of_bytes = network.step(params, network.carry(), obs, jnp.bool_(True))
    _, of_floats = network.step(params, network.carry(), obs.astype(jnp.float32) / 255, jnp.bool_(True))
    np.testing.assert_allclose(of_bytes.value, of_floats.value, rtol=1e-5)


class Square(nn.Module):
    """A torso that is not the package's: it knows that CartPole's observation has four numbers."""

    size: int

    @nn.compact
    def __call__(self, x):
        weights = self.param("weights", nn.initializers.normal(1.0), (4, self.size))
        return jnp.square(x @ weights)


def test_a_module_of_ones_own_is_the_torso():
    network = networks.make(replace(SMALL, torso=Square(3)), env_of((4,)))
    params = random_params(network)
    obs = jnp.array([0.1, -2.0, 0.5, 1.0])
    _, outputs = network.step(params, network.carry(), obs, jnp.bool_(True))
    features = {body: np.square(obs @ params[body]["torso"]["params"]["weights"]) for body in params if "body" in body}
    expected = dense(params["value_head"]["params"], features["value_body"])[0]
    np.testing.assert_allclose(outputs.value, expected, rtol=1e-5)
    expected = dense(params["policy_head"]["params"]["logits"], features["policy_body"])
    np.testing.assert_allclose(outputs.policy.logits, expected, rtol=1e-5)


def test_a_module_of_ones_own_is_trained_and_evaluated():
    """The run is only traced; the gradient is computed."""
    config = replace(a2c.Config(), torso=Square(3), num_envs=2, rollout_length=2, total_frames=8)

    def run(key):
        state = make_train(config)(key).state
        return state, evaluate(config, state, key, episodes=2)

    state, returns = jax.eval_shape(run, jax.random.key(0))
    assert state.learner.params["policy_body"]["torso"]["params"]["weights"].shape == (4, 3)
    assert returns.shape == (2,)
    network = networks.make(config.network, env_of((4,)))
    gradient = jax.grad(lambda params: network.step(params, network.carry(), jnp.ones(4), jnp.bool_(True))[1].value)
    assert (gradient(random_params(network))["value_body"]["torso"]["params"]["weights"] != 0).all()


class Broken(nn.Module):
    """Modules that cannot be a torso, by the name of what is wrong with them."""

    fault: str

    @nn.compact
    def __call__(self, x):
        features = nn.Dense(3)(x)
        return {
            "scalar": lambda: features.sum(-1),
            "matrix": lambda: jnp.stack([features, features], -1),
            "flattened": lambda: features.reshape(-1),
            "integers": lambda: features.astype(jnp.int32),
            "tuple": lambda: (features, features),
            "batch statistics": lambda: nn.BatchNorm(use_running_average=False)(features),
            "dropout": lambda: nn.Dropout(0.5, deterministic=False)(features),
            "fails": lambda: features @ jnp.ones((4, 4)),
        }[self.fault]()


FAULTS = {
    "scalar": r"float32\[\]",
    "matrix": r"float32\[3, 2\]",
    "flattened": r"shape \(7, 4\) .*float32\[21\]",
    "integers": r"int32\[3\]",
    "tuple": r"float32\[3\].*float32\[3\]",
    "batch statistics": "variables batch_stats",
    "dropout": "random numbers",
    "fails": "TypeError",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_module_that_cannot_be_a_torso_is_refused(fault):
    with pytest.raises(InputError, match=f"torso: .*Broken.* because .*{FAULTS[fault]}"):
        networks.make(replace(SMALL, torso=Broken(fault)), env_of((4,)))


def test_a_module_that_cannot_be_a_torso_is_refused_before_anything_is_compiled():
    with pytest.raises(InputError, match=r"torso: .*Broken"):
        make_train(replace(a2c.Config(), torso=Broken("dropout")))


def test_a_module_without_parameters_is_a_torso():
    network = networks.make(replace(SMALL, torso=nn.Sequential([jnp.square])), env_of((4,)))
    _, outputs = network.step(network.init(jax.random.key(0)), (), jnp.ones(4), jnp.bool_(True))
    assert outputs.value.shape == ()


def test_a_module_with_dropout_that_is_switched_off_is_a_torso():
    torso = nn.Sequential([nn.Dense(3), nn.Dropout(0.5, deterministic=True)])
    network = networks.make(replace(SMALL, torso=torso), env_of((4,)))
    _, outputs = network.step(network.init(jax.random.key(0)), (), jnp.ones(4), jnp.bool_(True))
    assert outputs.value.shape == ()


def test_a_class_of_modules_is_refused_with_the_advice_to_make_an_instance():
    with pytest.raises(InputError, match=r"torso: .*Square\(\.\.\.\)"):
        networks.make(replace(SMALL, torso=Square), env_of((4,)))


@pytest.mark.parametrize("torso", ["resnet", 3, None])
def test_the_error_for_an_unknown_torso_names_the_torsos_and_flax_modules(torso):
    with pytest.raises(InputError, match=r"torso: .*mlp, minatar, nips, nature, impala.*flax module"):
        networks.make(replace(SMALL, torso=torso), env_of((4,)))


@pytest.mark.parametrize("torso", TORSOS)
def test_an_image_torso_for_vectors_is_refused(torso):
    with pytest.raises(InputError, match=rf"torso: '{torso}'.*shape \(4,\)"):
        networks.make(replace(SMALL, torso=torso), env_of((4,)))


@pytest.mark.parametrize("shape", [(7, 20, 3), (20, 7, 3)])
def test_a_window_that_is_larger_than_its_input_is_refused(shape):
    def make():
        return networks.make(replace(SMALL, torso="nature"), env_of(shape)).init(jax.random.key(0))

    with pytest.raises(InputError, match=r"torso: .*8x8"):
        make()
