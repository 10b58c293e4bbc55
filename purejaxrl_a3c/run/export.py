"""``purejaxrl-a3c export RUN``: the trained policy for programs without this package.

``policy.stablehlo`` is the whole policy, with the wrappers of training inside, for whoever has JAX; ``policy.onnx`` is
the same for ONNX Runtime. ``policy.safetensors`` are its arrays and settings, for whoever writes the network anew.
"""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np

from purejaxrl_a3c import envs
from purejaxrl_a3c.checks import reject
from purejaxrl_a3c.config import parts, replace, to_json
from purejaxrl_a3c.envs import normalize
from purejaxrl_a3c.run.act import make_act
from purejaxrl_a3c.run.load import load
from purejaxrl_a3c.types import State

Format: TypeAlias = Literal["stablehlo", "safetensors", "onnx"]
"""Names of the formats."""
FILES: dict[Format, str] = {
    "stablehlo": "policy.stablehlo",
    "safetensors": "policy.safetensors",
    "onnx": "policy.onnx",
}
"""Names of their files."""
_NEEDED: dict[Format, tuple[str, str]] = {
    "stablehlo": ("flatbuffers", "export"),
    "safetensors": ("safetensors", "export"),
    "onnx": ("jax2onnx", "onnx"),
}
"""The package that each format needs, and the extra that has it."""
DESCRIPTION = "policy.json"
"""Name of the file that says what ``policy.stablehlo`` takes."""


class Policy(Protocol):
    """A policy that was exported."""

    def __call__(
        self, obs: Any, carry: list[jax.Array] | None = None, first: Any = None
    ) -> tuple[jax.Array, list[jax.Array]]:
        """The most probable actions for a batch of observations.

        Args:
            obs: ``[N, ...]``, as the environment's own library gives them.
            carry: what the call before returned; None at the start of episodes.
            first: bool ``[N]``, where an episode starts; by default everywhere if ``carry`` is None, else nowhere.

        Returns:
            ``(actions [N, ...], carry)``.
        """
        ...


def export_policy(run: Path, out: Path, formats: tuple[Format, ...] = ("stablehlo", "safetensors")) -> list[Path]:
    """Write the trained policy of a run.

    Args:
        run: folder of the run.
        out: folder for the files, which must not be there.
        formats: which.

    Returns:
        The files.

    Raises:
        InputError: if there is no sound checkpoint, a file exists, or the package of a format is not installed.
    """
    for one in formats:
        _check_installed(one)
    config, state, _ = load(run)
    names = [FILES[one] for one in formats] + ([DESCRIPTION] if {"stablehlo", "onnx"} & {*formats} else [])
    for name in names:
        if (out / name).exists():
            reject("out", str(out), f"a folder without {name}")
    out.mkdir(parents=True, exist_ok=True)
    if "stablehlo" in formats:
        (out / FILES["stablehlo"]).write_bytes(to_stablehlo(config, state))
    if "safetensors" in formats:
        _write_safetensors(out / FILES["safetensors"], config, state)
    if "onnx" in formats:
        (out / FILES["onnx"]).write_bytes(to_onnx(config, state))
    if DESCRIPTION in names:
        (out / DESCRIPTION).write_text(json.dumps(describe(config, state), indent=2) + "\n")
    return [out / name for name in names]


class _Batched(NamedTuple):
    """A policy for batches of any size, ``N``."""

    function: Callable[..., Any]  # (obs [N, ...], carry as a list of arrays [N, ...], first [N]) -> (actions, carry)
    obs: Any  # shapes and dtypes, without the batch
    action: Any
    carry: list[Any]

    @property
    def types(self) -> tuple[Any, list[Any], Any]:
        """Shapes and dtypes of what the function takes."""
        (size,) = jax.export.symbolic_shape("N")

        def of_batch(one: Any) -> Any:
            return jax.ShapeDtypeStruct((size, *one.shape), one.dtype)

        return (
            jax.tree.map(of_batch, self.obs),
            [of_batch(one) for one in self.carry],
            jax.ShapeDtypeStruct((size,), bool),
        )


def _batched(config: Any, state: State) -> _Batched:
    act = make_act(config, state)
    # Observations as they are before any wrapper.
    env = envs.make(replace(parts(config)["env"], wrappers=envs.Wrappers()), 1.0)
    obs = jax.eval_shape(lambda key: env.reset(key)[1], jax.random.key(0))
    action, carry = jax.eval_shape(act, obs)
    leaves, structure = jax.tree.flatten(carry)

    def policy(obs: jax.Array, leaves: list[jax.Array], first: jax.Array) -> tuple[jax.Array, list[jax.Array]]:
        actions, carry = jax.vmap(act)(obs, jax.tree.unflatten(structure, leaves), first)
        return actions, jax.tree.leaves(carry)

    return _Batched(policy, obs, action, leaves)


def to_stablehlo(config: Any, state: State) -> bytes:
    """The policy as a program for batches of any size.

    The program is ``(obs [N, ...], carry, first [N]) -> (actions [N, ...], carry)``, with the carry as a list of arrays
    ``[N, ...]``, of which those do not count where ``first`` is true.
    """
    policy = _batched(config, state)
    exported = jax.export.export(jax.jit(policy.function), platforms=("cpu", "cuda"))(*policy.types)
    return bytes(exported.serialize())


def describe(config: Any, state: State) -> dict[str, Any]:
    """What the programs of a policy take, for `DESCRIPTION`: shapes and dtypes without the batch, and the settings."""
    policy = _batched(config, state)

    def described(one: Any) -> dict[str, Any]:
        return {"shape": list(one.shape), "dtype": str(one.dtype)}

    return {
        "obs": jax.tree.map(described, policy.obs),
        "action": described(policy.action),
        "carry": [described(one) for one in policy.carry],
        "config": to_json(config),
    }


def to_onnx(config: Any, state: State) -> bytes:
    """The policy as a model of ONNX for batches of any size.

    Its inputs are ``obs``, ``first``, ``carry_0``, ``carry_1`` and so on, as those of `to_stablehlo`, and its outputs
    ``action``, ``next_carry_0`` and so on. An observation of several arrays has an input for each, such as
    ``obs.action_mask``. With ONNX Runtime, at the start of episodes::

        session = onnxruntime.InferenceSession("policy.onnx")
        names = [one.name for one in session.get_inputs()]
        carry = [np.zeros((N, *one["shape"]), one["dtype"]) for one in json.load(open("policy.json"))["carry"]]
        action, *carry = session.run(None, dict(zip(names, [obs, np.ones(N, bool), *carry])))
    """
    from jax2onnx import to_onnx as convert

    policy = _batched(config, state)
    obs, leaves, first = policy.types
    named, structure = jax.tree_util.tree_flatten_with_path(obs)
    arrays, count = [one for _, one in named], len(named)

    def flat_policy(*inputs: jax.Array) -> tuple[jax.Array, ...]:
        obs = jax.tree.unflatten(structure, inputs[:count])
        action, carry = policy.function(obs, list(inputs[count + 1 :]), inputs[count])
        return action, *carry

    # Traced before: while it traces, jax2onnx replaces flax's layers by ones that cannot be mapped.
    program = jax.extend.core.jaxpr_as_fun(jax.make_jaxpr(flat_policy)(*arrays, first, *leaves))
    number = range(len(leaves))
    model = convert(
        program,
        inputs=[*arrays, first, *leaves],
        model_name="policy",
        input_names=[*(_name(["obs", *keys]) for keys, _ in named), "first", *(f"carry_{i}" for i in number)],
        output_names=["action", *(f"next_carry_{i}" for i in number)],
    )
    return model.SerializeToString()


def load_policy(folder: str | Path) -> Policy:
    """The policy that `export_policy` wrote into a folder; neither the environment nor the algorithm is built.

    Without this package it is as short, as long as episodes begin together::

        told = json.loads(Path("policy.json").read_text())
        program = jax.export.deserialize(bytearray(Path("policy.stablehlo").read_bytes())).call
        carry = [jnp.zeros((N, *one["shape"]), one["dtype"]) for one in told["carry"]]
        actions, carry = program(obs, carry, jnp.ones(N, bool))

    Raises:
        InputError: if the files are not there.
    """
    _check_installed("stablehlo")
    program, description = (Path(folder) / name for name in (FILES["stablehlo"], DESCRIPTION))
    if not (program.exists() and description.exists()):
        reject("folder", str(folder), f"a folder with {program.name} and {description.name}, see `export_policy`")
    call = jax.jit(jax.export.deserialize(bytearray(program.read_bytes())).call)
    told = json.loads(description.read_text())

    def policy(obs: Any, carry: list[jax.Array] | None = None, first: Any = None) -> tuple[jax.Array, list[jax.Array]]:
        obs = _as_described(obs, told["obs"], "obs")
        number = jax.tree.leaves(obs)[0].shape[0]
        first = jnp.broadcast_to(carry is None if first is None else jnp.asarray(first), (number,))
        if carry is None:
            carry = [jnp.zeros((number, *one["shape"]), one["dtype"]) for one in told["carry"]]
        return call(obs, carry, first)

    return policy


def _as_described(obs: Any, told: dict[str, Any], name: str) -> Any:
    """A batch of observations as arrays, after a check of their shapes."""
    if not isinstance(told.get("shape"), list):  # several arrays
        if not isinstance(obs, dict) or obs.keys() != told.keys():
            reject(name, sorted(obs) if isinstance(obs, dict) else np.shape(obs), f"a dict with {', '.join(told)}")
        return {key: _as_described(obs[key], told[key], f"{name}.{key}") for key in told}
    obs = jnp.asarray(obs, told["dtype"])
    if list(obs.shape[1:]) != told["shape"] or not obs.ndim:
        reject(name, obs.shape, f"of shape [N, {', '.join(map(str, told['shape']))}]")
    return obs


def _check_installed(name: Format) -> None:
    package, extra = _NEEDED[name]
    if importlib.util.find_spec(package) is None:
        reject("format", name, f"one whose package {package} is installed: pip install 'purejaxrl-a3c[{extra}]'")


def _write_safetensors(path: Path, config: Any, state: Any) -> None:
    from safetensors.numpy import save_file

    arrays = {_name(keys): np.asarray(x) for keys, x in jax.tree_util.tree_leaves_with_path(state.learner.params)}
    moments = normalize.get_statistics(state.actor_state.env)
    if moments is not None:
        own = jax.tree.map(lambda x: np.asarray(x)[0, 0], moments)
        arrays |= {f"observations.{_name(keys)}": np.asarray(x) for keys, x in jax.tree_util.tree_leaves_with_path(own)}
    about = {"config": json.dumps(to_json(config))}
    save_file({name: np.ascontiguousarray(x) for name, x in arrays.items()}, path, about)


def _name(keys: Any) -> str:
    return ".".join(str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))) for key in keys)
