"""The wrappers around an environment that something else steps."""

from collections.abc import Callable

import jax

from purejaxrl_a3c.types import Action, Env, EnvState, Key, Observation, TimeStep, Told


def make_told(bare: Env, wrap: Callable[[Env], Env]) -> Told:
    """The wrappers of ``wrap`` as `Told`.

    Args:
        bare: an `Env`, of which only shapes and actions are used.
        wrap: a bare `Env` -> an `Env` that resets itself.
    """

    def around(first: Observation) -> Env:
        """The wrapped environment whose next episode begins with ``first``, and whose actions are its answers."""

        def reset(key: Key) -> tuple[EnvState, Observation]:
            del key
            return (), first

        def step(key: Key, state: EnvState, action: Action) -> tuple[EnvState, TimeStep]:
            del key
            answer: TimeStep = action  # type: ignore[assignment]
            # An environment that does not reset itself shows the end of the episode.
            return state, answer._replace(obs=answer.final_obs)

        return wrap(Env(reset, step, bare.observation_shape, bare.action_space))

    def start(obs: Observation) -> tuple[EnvState, Observation]:
        return around(obs).reset(jax.random.key(0))

    def later(state: EnvState, answer: TimeStep) -> tuple[EnvState, TimeStep]:
        keys = jax.random.split(jax.random.key(0))
        return around(answer.obs).step(keys, state, answer)  # type: ignore[arg-type]

    def freeze(state: EnvState) -> Told:
        def frozen(env: Env) -> Env:
            freeze = wrap(env).freeze
            assert freeze is not None
            return freeze(state)

        return make_told(bare, frozen)

    return Told(bare, start, later, freeze)
