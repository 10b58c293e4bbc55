"""Environments behind the one `Env` type."""

from purejaxrl_a3c.envs import gymnax_env
from purejaxrl_a3c.envs.wrappers import record_episodes


def make(env_id):
    """The environment named ``env_id``, with the statistics of its episodes recorded.

    Args:
        env_id: a name in ``gymnax.registered_envs``.

    Returns:
        An `Env` that resets itself and reports the return and length of its episodes.

    Raises:
        InputError: for an unknown name.
    """
    return record_episodes(gymnax_env.make(env_id))
