import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from scipy import integrate

from purejaxrl_a3c.networks.distributions import Categorical, DiagGaussian, MultiCategorical, TanhGaussian

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
    noise = jax.random.uniform(jax.random.key(0), (draws,))
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


SIZES = (3, 2, 4)
MULTI_LOGITS = jax.random.normal(jax.random.key(1), (2, sum(SIZES)))
JOINT = np.array(list(itertools.product(*map(range, SIZES))))  # every action of a MultiCategorical


def joint_probabilities(logits):
    """The probability of every action in `JOINT`: the product of the probabilities of its choices."""
    parts = np.split(np.asarray(logits), np.cumsum(SIZES)[:-1], axis=-1)
    tables = [probabilities(part) for part in parts]
    return np.array([np.prod([table[i] for table, i in zip(tables, action, strict=True)]) for action in JOINT])


def test_several_choices_at_once_are_the_product_of_their_categoricals():
    policy, other = (MultiCategorical(logits, SIZES) for logits in MULTI_LOGITS)
    p, q = (joint_probabilities(logits) for logits in MULTI_LOGITS)
    log_prob, entropy, kl, mode = jax.jit(
        lambda: (jax.vmap(policy.log_prob)(jnp.array(JOINT)), policy.entropy(), policy.kl(other), policy.mode())
    )()
    np.testing.assert_allclose(log_prob, np.log(p), rtol=1e-5)
    np.testing.assert_allclose(entropy, scipy.stats.entropy(p), rtol=1e-5)
    np.testing.assert_allclose(kl, scipy.stats.entropy(p, q), rtol=1e-5)
    np.testing.assert_array_equal(mode, JOINT[np.argmax(p)])


def test_samples_of_several_choices_follow_their_joint_probabilities():
    draws = 20_000
    noise = jax.random.uniform(jax.random.key(0), (draws, len(SIZES)))
    actions = jax.jit(jax.vmap(MultiCategorical(MULTI_LOGITS[0], SIZES).sample))(noise)
    assert actions.dtype == jnp.int32
    observed = np.bincount(np.ravel_multi_index(np.asarray(actions).T, SIZES), minlength=len(JOINT))
    assert scipy.stats.chisquare(observed, draws * joint_probabilities(MULTI_LOGITS[0])).pvalue > 1e-3


LOC = jnp.array([0.5, -2.0, 10.0])
LOG_SCALE = jnp.array([0.0, -1.5, 1.2])
OTHER_LOC = jnp.array([-0.5, -2.2, 9.0])
OTHER_LOG_SCALE = jnp.array([0.7, -1.2, 2.0])


def frozen(loc, log_scale):
    return scipy.stats.norm(np.asarray(loc, float), np.exp(np.asarray(log_scale, float)))


def test_log_prob_and_entropy_of_a_gaussian_are_those_of_scipy():
    policy, oracle = DiagGaussian(LOC, LOG_SCALE), frozen(LOC, LOG_SCALE)
    action = jnp.array([[0.0, -2.1, 14.0], [3.0, -1.0, 5.0]])
    np.testing.assert_allclose(jax.vmap(policy.log_prob)(action), oracle.logpdf(action).sum(-1), rtol=1e-5)
    np.testing.assert_allclose(policy.entropy(), oracle.entropy().sum(), rtol=1e-5)
    np.testing.assert_array_equal(policy.mode(), LOC)
    np.testing.assert_array_equal(policy.to_env_action(action), action)


@pytest.mark.parametrize("kind", [DiagGaussian, TanhGaussian])
def test_the_divergence_of_gaussians_is_the_integral_also_after_a_tanh(kind):
    policy, other = frozen(LOC, LOG_SCALE), frozen(OTHER_LOC, OTHER_LOG_SCALE)
    x = policy.mean() + policy.std() * np.linspace(-12, 12, 4001)[:, None]
    expected = integrate.trapezoid(policy.pdf(x) * (policy.logpdf(x) - other.logpdf(x)), x, axis=0).sum()
    kl = kind(LOC, LOG_SCALE).kl(kind(OTHER_LOC, OTHER_LOG_SCALE))
    np.testing.assert_allclose(kl, expected, rtol=1e-4)
    assert kind(LOC, LOG_SCALE).kl(kind(LOC, LOG_SCALE)) == 0


def test_the_divergence_of_squashed_gaussians_is_that_of_the_environments_actions():
    """The integral is over the environment's action, with the densities that ``log_prob`` gives."""
    mine, its = (
        TanhGaussian(jnp.array([loc]), jnp.array([log_scale])) for loc, log_scale in ((0.5, -0.7), (-0.3, 0.2))
    )
    x = np.linspace(-10, 10, 8001)
    p, q = (np.asarray(jax.vmap(d.log_prob)(jnp.array(x[:, None], jnp.float32)), float) for d in (mine, its))
    np.testing.assert_allclose(mine.kl(its), integral_over_actions(np.exp(p) * (p - q), x)[-1], rtol=1e-3)


def test_samples_of_a_gaussian_follow_it():
    samples = jax.vmap(DiagGaussian(LOC, LOG_SCALE).sample)(jax.random.normal(jax.random.key(0), (5000, 3)))
    for i in range(3):
        assert scipy.stats.kstest(samples[:, i], frozen(LOC[i], LOG_SCALE[i]).cdf).pvalue > 1e-3


def integral_over_actions(y, x):
    """Running integral of ``y``, given at ``tanh(x)``, over tanh(x): float64, and exact in ``1 - abs(tanh(x))``."""
    widths = np.sinh(np.diff(x)) / (np.cosh(x[1:]) * np.cosh(x[:-1]))  # tanh(b) - tanh(a) without cancellation
    return np.append(0.0, np.cumsum(widths * (y[1:] + y[:-1]) / 2))


SQUASHED = [(loc, log_scale) for loc in (0.0, 1.0, -10.0) for log_scale in (-3.0, 0.0, 1.0, 3.0)]


@jax.jit
def squashed(loc, log_scale, x):
    """Log-density at every one of ``x [N]``, and the entropy, of one squashed number."""
    policy = TanhGaussian(loc[None], log_scale[None])
    return jax.vmap(policy.log_prob)(x[:, None]), policy.entropy()


@pytest.mark.parametrize(("loc", "log_scale"), SQUASHED)
def test_the_density_of_a_squashed_gaussian_integrates_to_its_distribution_function(loc, log_scale):
    oracle = frozen(loc, log_scale)
    x = (loc + np.exp(log_scale) * np.linspace(-8, 8, 200_001)).astype(np.float32)
    log_density, estimate = squashed(jnp.float32(loc), jnp.float32(log_scale), x)
    log_density, x = np.asarray(log_density, float), x.astype(float)
    distribution = integral_over_actions(np.exp(log_density), x)
    np.testing.assert_allclose(distribution, oracle.cdf(x), atol=1e-3)
    assert distribution[-1] == pytest.approx(1, abs=1e-3)
    entropy = integral_over_actions(-np.exp(log_density) * log_density, x)[-1]
    np.testing.assert_allclose(estimate, entropy, atol=2e-3, rtol=1e-3)


def squashed_entropy(loc, log_scale):
    """The entropy of one squashed number, by adaptive integration in float64."""
    scale = np.exp(log_scale)

    def integrand(z):
        x = abs(loc + scale * z)
        return np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi) * 2 * (np.log(2) - x - np.log1p(np.exp(-2 * x)))

    # The integrand bends where abs(x) is below a few.
    bends = [z for x in (-8, -1, 0, 1, 8) if abs(z := (x - loc) / scale) < 12]
    mean, error = integrate.quad(integrand, -12, 12, points=bends, limit=200, epsabs=1e-10, epsrel=1e-10)
    assert error < 1e-7
    return log_scale + 0.5 * np.log(2 * np.pi * np.e) + mean


GAUSSIANS = np.array(
    list(itertools.product([-5, -2, -0.5, 0, 0.2, 1, 3.5, 5], [-10, -4, -2, -1, 0, 0.7, 1.5, 2, 2.5, 3]))
)


def test_the_entropy_of_a_squashed_gaussian_is_the_integral_for_every_scale():
    loc, log_scale = jnp.array(GAUSSIANS.T, jnp.float32)
    expected = [squashed_entropy(*row) for row in GAUSSIANS]
    np.testing.assert_allclose(TanhGaussian(loc[:, None], log_scale[:, None]).entropy(), expected, atol=2e-5, rtol=0)


def test_the_gradient_of_a_squashed_gaussians_entropy_is_that_of_the_integral():
    def entropy(loc, log_scale):
        return TanhGaussian(loc[None], log_scale[None]).entropy()

    gradients = jax.jit(jax.vmap(jax.grad(entropy, (0, 1))))(*jnp.array(GAUSSIANS.T, jnp.float32))
    step = 1e-3
    for i, change in enumerate(([step, 0], [0, step])):
        after, before = ([squashed_entropy(*row) for row in GAUSSIANS + sign * np.array(change)] for sign in (1, -1))
        np.testing.assert_allclose(gradients[i], np.subtract(after, before) / (2 * step), atol=2e-5, rtol=1e-5)


def test_the_entropy_of_several_squashed_numbers_is_the_sum_over_them():
    several = TanhGaussian(jnp.array([[0.0, 1.0, -2.0]] * 2), jnp.array([[0.0, -1.0, 0.5], [0.3, 0.3, 0.3]]))
    each = TanhGaussian(several.loc[..., None], several.log_scale[..., None]).entropy()
    assert each.shape == (2, 3)
    np.testing.assert_allclose(several.entropy(), each.sum(-1), rtol=1e-5)


def test_squashed_samples_of_a_gaussian_follow_the_density_that_log_prob_gives():
    policy = TanhGaussian(jnp.array([0.4]), jnp.array([-0.3]))
    x = np.linspace(-8, 8, 8001)
    density = np.exp(np.asarray(jax.vmap(policy.log_prob)(jnp.array(x[:, None], jnp.float32)), float))
    distribution = integral_over_actions(density, x)
    samples = jax.vmap(policy.sample)(jax.random.normal(jax.random.key(0), (5000, 1)))
    actions = np.asarray(policy.to_env_action(samples))[:, 0]
    assert scipy.stats.kstest(actions, lambda a: np.interp(a, np.tanh(x), distribution)).pvalue > 1e-3


def test_actions_of_a_squashed_gaussian_stay_between_the_bounds():
    x = jnp.array([-jnp.inf, -1e30, -20.0, -0.5, 0.0, 0.5, 20.0, 1e30, jnp.inf])
    actions = TanhGaussian.to_env_action(x)
    assert (jnp.abs(actions) <= 1).all()
    np.testing.assert_allclose(actions, np.tanh(x), rtol=1e-6)


@pytest.mark.parametrize("x", [-20.0, 20.0, 100.0])
def test_log_prob_of_a_squashed_gaussian_does_not_cancel_where_the_tanh_saturates(x):
    policy = TanhGaussian(jnp.array([1.0]), jnp.array([0.5]))
    log_slope = -2 * (np.logaddexp(x, -x) - np.log(2))  # cosh(x)^-2
    np.testing.assert_allclose(policy.log_prob(jnp.array([x])), frozen(1.0, 0.5).logpdf(x) - log_slope, rtol=1e-5)


@pytest.mark.parametrize("kind", [DiagGaussian, TanhGaussian])
def test_gaussians_and_their_gradients_are_finite_at_the_extremes(kind):
    def functions(loc, log_scale, action):
        policy = kind(loc, log_scale)
        return jnp.stack([policy.log_prob(action), policy.entropy(), policy.kl(kind(-loc, log_scale + 1))])

    def with_gradients(loc, log_scale, action):
        return functions(loc, log_scale, action), jax.jacobian(functions, (0, 1))(loc, log_scale, action)

    rows = itertools.product([0.0, 20.0], [-10.0, 3.0], [-20.0, 0.0, 20.0])  # loc, log_scale, action
    arguments = jnp.array(list(rows)).T[..., None]
    for leaf in jax.tree.leaves(jax.jit(jax.vmap(with_gradients))(*arguments)):
        assert jnp.isfinite(leaf).all()


def _of_every_kind():
    """Name to (batch of distributions, another, noise)."""
    key = jax.random.key(3)
    numbers = jax.random.normal(key, (4, 5, 3))
    choices = jax.random.normal(key, (4, 5, sum(SIZES)))
    return {
        "categorical": (Categorical(numbers), Categorical(-numbers), jax.random.uniform(key, (4, 5))),
        "multi": (
            MultiCategorical(choices, SIZES),
            MultiCategorical(-choices, SIZES),
            jax.random.uniform(key, (4, 5, len(SIZES))),
        ),
        "gaussian": (DiagGaussian(numbers, 0.5 * numbers), DiagGaussian(numbers, -numbers), numbers),
        "tanh": (TanhGaussian(numbers, 0.5 * numbers), TanhGaussian(numbers, -numbers), numbers),
    }


@pytest.mark.parametrize("name", _of_every_kind())
def test_a_batch_of_distributions_equals_each_of_them_mapped_over(name):
    def everything(policy, other, noise):
        action = policy.sample(noise)
        return (
            action,
            policy.to_env_action(action),
            policy.mode(),
            policy.log_prob(action),
            policy.entropy(),
            policy.kl(other),
        )

    arguments = _of_every_kind()[name]
    together, mapped = jax.jit(lambda *x: (everything(*x), jax.vmap(jax.vmap(everything))(*x)))(*arguments)
    assert [x.shape[:2] for x in together] == [(4, 5)] * 6
    assert all(x.shape == (4, 5) for x in together[3:])
    for one, other in zip(together, mapped, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
