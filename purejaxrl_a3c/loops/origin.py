"""Which settings a state belongs to, so that it is not read with others by mistake."""

import dataclasses
from typing import Any

import jax

from purejaxrl_a3c import envs, networks
from purejaxrl_a3c.config import field_types, is_config, is_float, parts

# Wrappers that change observations or keep statistics, which an evaluation reads from the state.
_WRAPPERS = ("observe", "flatten", "frame_stack", "normalize_observations", "scale_rewards")


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Origin:
    """Settings by name that the policy of a state depends on. It is part of the structure of the state's tree."""

    settings: tuple[tuple[str, Any], ...]

    @property
    def env_name(self) -> str:
        """What errors call the environment."""
        env_id = dict(self.settings)["env_id"]
        return env_id if isinstance(env_id, str) else "the environment"

    def differences(self, other: "Origin") -> dict[str, tuple[Any, Any]]:
        """Settings that differ, each with the value here and there."""
        here, there = dict(self.settings), dict(other.settings)
        return {name: (value, there.get(name)) for name, value in here.items() if value != there.get(name)}


def origin(env: envs.Config, network: networks.Config | networks.BodyConfig) -> Origin:
    """The `Origin` of states with these settings. Floats, which may be traced, are not part of it."""
    settings = {"env_id": env.env_id} | {name: getattr(env.wrappers, name) for name in _WRAPPERS}
    for one in (network, *parts(network).values()):
        static = [name for name, annotation in field_types(type(one)).items() if not is_float(annotation)]
        settings |= {name: getattr(one, name) for name in static if not is_config(getattr(one, name))}
    return Origin(tuple(settings.items()))
