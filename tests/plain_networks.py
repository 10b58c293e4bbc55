"""Networks and losses of continuous control in plain NumPy, in float64, and their gradients by central differences."""

import jax
import numpy as np
from jax.flatten_util import ravel_pytree

from purejaxrl_a3c import networks
from purejaxrl_a3c.types import Env

BODY = networks.BodyConfig(activation="tanh", hidden_sizes=(5,))
ROWS = 6


def spaces_only(action_space, observation_shape=(3,)):
    """An `Env` of which only the spaces are used."""

    def unused(*args):
        raise AssertionError

    return Env(unused, unused, observation_shape, action_space)


def random_like(params, seed, scale=0.7):
    """Parameters of these shapes that are not as small as those of a fresh network."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: (scale * rng.standard_normal(x.shape)).astype(np.float32), params)


def dense(layer, x):
    return x @ layer["kernel"] + layer["bias"]


def policy_features(params, obs):
    return np.tanh(dense(params["body"]["torso"]["params"]["Dense_0"], obs))


def policy_head(params, name, obs):
    return dense(params["policy_head"]["params"][name], policy_features(params, obs))


def critics(params, *inputs):
    """[count, M, outputs]."""
    x = np.concatenate(inputs, axis=-1)
    layers, last = params["params"]["layers"]["Dense_0"], params["params"]["Dense_0"]
    found = []
    for i in range(last["bias"].shape[0]):
        one, out = ({name: value[i] for name, value in layer.items()} for layer in (layers, last))
        found.append(dense(out, np.tanh(dense(one, x))))
    return np.stack(found)


def wide(tree):
    return jax.tree.map(lambda x: np.asarray(x, np.float64), tree)


def differences(loss, params, step=1e-5):
    """The gradient of ``loss`` at ``params``, as one vector."""
    vector, unravel = np_ravel(wide(params))
    found = np.zeros_like(vector)
    for i in range(vector.size):
        ahead, behind = vector.copy(), vector.copy()
        ahead[i] += step
        behind[i] -= step
        found[i] = (loss(unravel(ahead)) - loss(unravel(behind))) / (2 * step)
    return found


def np_ravel(tree):
    leaves, structure = jax.tree.flatten(tree)
    ends = np.cumsum([leaf.size for leaf in leaves])[:-1]

    def unravel(vector):
        parts = np.split(vector, ends)
        return jax.tree.unflatten(structure, [part.reshape(x.shape) for part, x in zip(parts, leaves, strict=True)])

    return np.concatenate([leaf.ravel() for leaf in leaves]), unravel


def as_vector(tree):
    return np.asarray(ravel_pytree(tree)[0])
