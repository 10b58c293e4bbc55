import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

from purejaxrl_a3c.distributions import Categorical

LOGITS = jnp.array([[0.3, -1.2, 2.0, 0.0], [5.0, 5.0, -30.0, 1.0]])


def probabilities(logits):
    weights = np.exp(np.asarray(logits, np.float64))
    return weights / weights.sum(-1, keepdims=True)


def test_log_prob_entropy_and_kl_equal_the_definitions():
    policy, other = Categorical(LOGITS), Categorical(LOGITS[::-1])
    p, q = probabilities(LOGITS), probabilities(LOGITS[::-1])
    actions = jnp.array([1, 3])
    np.testing.assert_allclose(policy.log_prob(actions), np.log(p[[0, 1], actions]), rtol=1e-5)
    np.testing.assert_allclose(policy.entropy(), scipy.stats.entropy(p, axis=-1), rtol=1e-5)
    np.testing.assert_allclose(policy.kl(other), scipy.stats.entropy(p, q, axis=-1), rtol=1e-5)
    np.testing.assert_array_equal(policy.mode(), [2, 0])


def test_samples_follow_the_probabilities():
    draws = 20_000
    noise = Categorical.noise(jax.random.key(0), (draws,))
    for logits, p in zip(LOGITS, probabilities(LOGITS), strict=True):
        actions = jax.vmap(Categorical(logits).sample)(noise)
        expected = p[p > 1e-4]
        observed = np.bincount(actions, minlength=4)[p > 1e-4]
        assert observed.sum() == draws
        assert scipy.stats.chisquare(observed, draws * expected / expected.sum()).pvalue > 1e-3


def test_the_ends_of_the_noise_select_possible_actions():
    impossible = Categorical(jnp.array([-jnp.inf, 0.1, 0.2, 0.3, -jnp.inf]))
    largest = jnp.float32(1 - 2**-23)  # the largest that jax.random.uniform draws
    assert impossible.sample(jnp.float32(0)) == 1
    assert impossible.sample(largest) == 3


def test_gradients_are_finite_at_the_extremes():
    def total(logits):
        policy = Categorical(logits)
        return policy.entropy() + policy.log_prob(jnp.int32(1))

    assert jnp.isfinite(jax.grad(total)(jnp.array([1e4, -1e4, 0.0]))).all()
