"""``purejaxrl-a3c export RUN``: the trained policy for programs without this package.

``policy.stablehlo`` is the whole policy, with the wrappers of training inside, for whoever has JAX.
``policy.safetensors`` are its arrays and settings, for whoever writes the network anew.
"""

import importlib.util
import json
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from purejaxrl_a3c import envs
from purejaxrl_a3c.checks import reject
from purejaxrl_a3c.config import parts, replace, to_json
from purejaxrl_a3c.envs import normalize
from purejaxrl_a3c.run.act import make_act
from purejaxrl_a3c.run.load import load
from purejaxrl_a3c.types import State

Format: TypeAlias = Literal["stablehlo", "safetensors"]
"""Names of the formats."""
FILES: dict[Format, str] = {"stablehlo": "policy.stablehlo", "safetensors": "policy.safetensors"}
"""Names of their files."""
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
    names = [FILES[one] for one in formats] + ([DESCRIPTION] if "stablehlo" in formats else [])
    for name in names:
        if (out / name).exists():
            reject("out", str(out), f"a folder without {name}")
    out.mkdir(parents=True, exist_ok=True)
    if "stablehlo" in formats:
        program, description = to_stablehlo(config, state)
        (out / FILES["stablehlo"]).write_bytes(program)
        (out / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n")
    if "safetensors" in formats:
        _write_safetensors(out / FILES["safetensors"], config, state)
    return [out / name for name in names]


def to_stablehlo(config: Any, state: State) -> tuple[bytes, dict[str, Any]]:
    """The policy as a program for batches of any size, and what it takes.

    The program is ``(obs [N, ...], carry, first [N]) -> (actions [N, ...], carry)``, with the carry as a list of arrays
    ``[N, ...]``, of which those do not count where ``first`` is true.
    """
    act = make_act(config, state)
    # Observations as they are before any wrapper.
    env = envs.make(replace(parts(config)["env"], wrappers=envs.Wrappers()), 1.0)
    obs = jax.eval_shape(lambda key: env.reset(key)[1], jax.random.key(0))
    action, carry = jax.eval_shape(act, obs)
    leaves, structure = jax.tree.flatten(carry)
    (size,) = jax.export.symbolic_shape("N")

    def of_batch(one: Any) -> Any:
        return jax.ShapeDtypeStruct((size, *one.shape), one.dtype)

    def policy(obs: jax.Array, leaves: list[jax.Array], first: jax.Array) -> tuple[jax.Array, list[jax.Array]]:
        actions, carry = jax.vmap(act)(obs, jax.tree.unflatten(structure, leaves), first)
        return actions, jax.tree.leaves(carry)

    types = of_batch(obs), [of_batch(leaf) for leaf in leaves], jax.ShapeDtypeStruct((size,), bool)
    exported = jax.export.export(jax.jit(policy), platforms=("cpu", "cuda"))(*types)

    def described(one: Any) -> dict[str, Any]:
        return {"shape": list(one.shape), "dtype": str(one.dtype)}

    return bytes(exported.serialize()), {
        "obs": described(obs),
        "action": described(action),
        "carry": [described(leaf) for leaf in leaves],
        "config": to_json(config),
    }


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
        obs = jnp.asarray(obs, told["obs"]["dtype"])
        if list(obs.shape[1:]) != told["obs"]["shape"] or not obs.ndim:
            reject("obs", obs.shape, f"of shape [N, {', '.join(map(str, told['obs']['shape']))}]")
        number = obs.shape[0]
        first = jnp.broadcast_to(carry is None if first is None else jnp.asarray(first), (number,))
        if carry is None:
            carry = [jnp.zeros((number, *one["shape"]), one["dtype"]) for one in told["carry"]]
        return call(obs, carry, first)

    return policy


def _check_installed(name: Format) -> None:
    package = {"stablehlo": "flatbuffers", "safetensors": "safetensors"}[name]
    if importlib.util.find_spec(package) is None:
        reject("format", name, f"one whose package {package} is installed: pip install 'purejaxrl-a3c[export]'")


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
