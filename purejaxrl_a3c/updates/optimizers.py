"""Optimizers, from optax, as the papers use them."""

import optax

from purejaxrl_a3c.checks import is_concrete


def shared_rmsprop(config, num_updates):
    """RMSProp without momentum behind a global-norm clip (Mnih et al. 2016, arXiv 1602.01783, section 4).

    ``g <- decay g + (1 - decay) grad^2``, ``params <- params - learning_rate grad / sqrt(g + epsilon)``, with
    epsilon inside the root. *Shared* is what A3C's update rule makes of it: one ``g`` and one count of updates
    for all workers.

    Args:
        config: any object with ``learning_rate``, ``anneal_learning_rate``, ``max_gradient_norm``,
            ``rmsprop_decay`` and ``rmsprop_epsilon``.
        num_updates: updates of the whole run, over which the learning rate falls linearly to 0 if it is
            annealed.

    Returns:
        An optax transformation.
    """
    return optax.chain(
        optax.clip_by_global_norm(config.max_gradient_norm),
        optax.scale_by_rms(config.rmsprop_decay, config.rmsprop_epsilon, eps_in_sqrt=True),
        optax.scale_by_learning_rate(_rate(config, num_updates)),
    )


def adam(config, num_updates):
    """Adam behind a global-norm clip, as PPO uses it (details 3, 4 and 11 of Huang et al. 2022).

    It works on all parameters as one vector, whether its caller does or not: leaf by leaf it is many small kernels.

    Args:
        config: any object with ``learning_rate``, ``anneal_learning_rate``, ``max_gradient_norm`` and ``adam_epsilon``.
        num_updates: as of `shared_rmsprop`.

    Returns:
        An optax transformation.
    """
    return optax.flatten(
        optax.chain(
            optax.clip_by_global_norm(config.max_gradient_norm),
            optax.scale_by_adam(eps=config.adam_epsilon),
            optax.scale_by_learning_rate(_rate(config, num_updates)),
        )
    )


def _rate(config, num_updates):
    rate = config.learning_rate
    return optax.linear_schedule(rate, 0.0, num_updates) if config.anneal_learning_rate else rate


def with_momentum(optimizer, momentum):
    """Heavy ball on the steps of another optimizer: ``step <- momentum * step + optimizer's``.

    Args:
        optimizer: an optax transformation.
        momentum: in (-1, 1), may be traced. Asynchrony itself acts as momentum (Mitliagkas et al. 2016, arXiv
            1605.09774), which a negative one counters.

    Returns:
        An optax transformation; without momentum ``optimizer`` itself.
    """
    if is_concrete(momentum) and momentum == 0:
        return optimizer
    return optax.chain(optimizer, optax.trace(momentum))
