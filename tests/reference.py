"""Plain NumPy loops in float64: the textbook definitions, one step at a time."""

import numpy as np


def block(seed, length, *, ends=0.4):
    """Random inputs of a return estimator with terminations and truncations inside: a dict of arrays [T]."""
    rng = np.random.default_rng(seed)
    value, next_value, reward = rng.normal(size=(3, length))
    kind = rng.choice(3, size=length, p=[1 - ends, ends / 2, ends / 2])
    terminated, truncated = kind == 1, kind == 2
    return {
        "value": value,
        "next_value": next_value,
        "reward": reward,
        "discount": 0.9 * (1.0 - terminated),
        "last": (terminated | truncated).astype(float),
    }


def gae(value, next_value, reward, discount, last, gae_lambda):
    advantage = np.zeros(len(value))
    ahead = 0.0
    for t in reversed(range(len(value))):
        delta = reward[t] + discount[t] * next_value[t] - value[t]
        ahead = delta + discount[t] * gae_lambda * (1 - last[t]) * ahead
        advantage[t] = ahead
    return advantage


def n_step_return(value, next_value, reward, discount, last, n):
    target = np.zeros(len(value))
    for start in range(len(value)):
        weight = 1.0
        for t in range(start, min(start + n, len(value))):
            target[start] += weight * reward[t]
            weight *= discount[t]
            if last[t] or t == min(start + n, len(value)) - 1:
                target[start] += weight * next_value[t]
                break
    return target


def vtrace_value(value, next_value, reward, discount, last, log_rho, gae_lambda, clip_rho, clip_c):
    """The sum over products of the paper's equation 1, literally."""
    weight = np.exp(log_rho)
    target = np.array(value)
    for start in range(len(value)):
        product = 1.0
        for t in range(start, len(value)):
            rho, c = min(clip_rho, weight[t]), gae_lambda * min(clip_c, weight[t])
            target[start] += product * rho * (reward[t] + discount[t] * next_value[t] - value[t])
            product *= discount[t] * c * (1 - last[t])
    return target


def monte_carlo(reward, first, last, gamma, longest):
    """{start: returns of the whole episode that starts there}, of those that start early enough."""
    episodes = {}
    for start in np.flatnonzero(first):
        ends = np.flatnonzero(last[start:])
        if len(ends) and start + longest <= len(reward):
            rewards = reward[start : start + ends[0] + 1]
            episodes[start] = [sum(gamma**k * r for k, r in enumerate(rewards[t:])) for t in range(len(rewards))]
    return episodes


def peng_return(value, next_value, reward, discount, last, q_lambda):
    target = np.zeros(len(value))
    for t in reversed(range(len(value))):
        after = next_value[t]
        if t < len(value) - 1 and not last[t]:
            after = (1 - q_lambda) * next_value[t] + q_lambda * target[t + 1]
        target[t] = reward[t] + discount[t] * after
    return target
