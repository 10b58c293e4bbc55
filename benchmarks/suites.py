"""What `benchmarks.learning` trains: for each suite, panels, and for each panel the settings of its curves by label."""

from typing import Any

from purejaxrl_a3c import a2c, a3c, d4pg, dqn, nstep_q, ppo, pqn, r2d2, reinforce, rnd, sac, td3
from purejaxrl_a3c.config import replace
from purejaxrl_a3c.envs import Wrappers
from purejaxrl_a3c.updates import Asynchrony, optimizers
from purejaxrl_a3c.updates.service import Service

ALGORITHMS: dict[str, Any] = {"A3C": a3c.Config(), "A2C": a2c.Config()}


def both(suffix="", **changes):
    """A3C and A2C with these settings, by label."""
    return {name + suffix: replace(config, **changes) for name, config in ALGORITHMS.items()}


NORMALIZED = Wrappers(normalize_observations=True, scale_rewards=True)


def _memory(**changes):
    """With and without an LSTM of 32 cells, for each algorithm at a rate that was chosen for its LSTM on CartPole."""
    rows = {}
    for name, config in ALGORITHMS.items():
        rate = 1e-3 if name == "A3C" else 2e-3
        config = replace(config, rollout_length=20, learning_rate=rate, hidden_sizes=(64,), **changes)
        rows[f"{name}-LSTM"] = replace(config, core="lstm", num_cells=32)
        rows[f"{name} feed-forward"] = config
    return rows


def _minatar(game):
    """A3C and A2C with settings found on seeds 100 and 101, most of them on Asterix.

    The convolution is decisive there: with fully connected layers the return stayed in single figures. On Breakout,
    whose two openings are always the same, a policy with less entropy played them by heart and got no further.
    """
    shared: dict[str, Any] = {
        "env_id": f"{game}-MinAtar",
        "total_frames": 3_000_000,
        "torso": "minatar",
        "hidden_sizes": (128,),
        "activation": "relu",
        "shared_torso": True,
        "layer_norm": True,
        "learning_rate": 2e-3,
        "gae_lambda": 0.9,
        "entropy_coefficient": 0.03 if game == "Breakout" else 0.01,
    }
    return {
        "A3C": replace(a3c.Config(), **shared),
        "A2C": replace(a2c.Config(), num_envs=16, rollout_length=5, **shared),
    }


def _ppo_minatar(**changes):
    """Settings found on Breakout. Fully connected layers, a sixth of the convolution's time on a CPU, do as well."""
    return {
        "PPO": replace(
            ppo.Config(),
            num_envs=128,
            rollout_length=64,
            num_minibatches=16,
            total_frames=10_000_000,
            learning_rate=4e-3,
            clip_range=0.1,
            layer_norm=True,
            activation="relu",
            shared_torso=True,
            **changes,
        )
    }


def _deep_sea():
    """PPO and A2C, each without and with a bonus."""
    shared: dict[str, Any] = {"env_id": "DeepSea-bsuite", "num_envs": 16, "total_frames": 100_000, "gamma": 0.999}
    agents: dict[str, Any] = {
        "PPO": replace(ppo.Config(), rollout_length=32, learning_rate=1e-3, **shared),
        "A2C": replace(a2c.Config(), rollout_length=16, learning_rate=2e-3, **shared),
    }
    bonuses = {
        "RND (PPO)": replace(rnd.Config(), agent=agents["PPO"], predictor_learning_rate=1e-3),
        "RND (A2C)": replace(rnd.Config(), agent=agents["A2C"]),
    }
    return agents | bonuses


def _grid(env_id, **changes):
    """PPO with a GRU, at one set of settings for worlds of blocks."""
    shared: dict[str, Any] = {
        "num_envs": 64,
        "rollout_length": 64,
        "num_minibatches": 8,
        "learning_rate": 1e-3,
        "hidden_sizes": (128,),
        "core": "gru",
        "num_cells": 128,
        "shared_torso": True,
    }
    return {"PPO-GRU": replace(ppo.Config(), env_id=env_id, **(shared | changes))}


def _door_key():
    """A sparse reward behind a locked door, without and with a bonus."""
    rows: dict[str, Any] = _grid("navix/Navix-DoorKey-8x8-v0", total_frames=1_000_000, env_kwargs={"max_steps": 640})
    return rows | {"RND (PPO)": replace(rnd.Config(), agent=rows["PPO-GRU"], predictor_learning_rate=1e-3)}


def _pgx_minatar(game):
    """The settings of pgx's PPO on MinAtar (its examples/minatar-ppo), with MinAtar's own convolution."""
    return {
        "PPO": replace(
            ppo.Config(),
            env_id=f"{game}-MinAtar",
            num_envs=4096,
            rollout_length=128,
            epochs=3,
            num_minibatches=128,
            total_frames=38 * 4096 * 128,  # pgx's 20,000,000 in whole iterations
            clip_values=True,
            torso="minatar",
            hidden_sizes=(128,),
            activation="relu",
            shared_torso=True,
            learning_rate=3e-4,
            anneal_learning_rate=False,
        )
    }


def _dqn(**changes):
    return {"DQN": replace(dqn.Config(), **changes)}


def _continuous(names, **changes):
    """Two layers of 64, which are as good as 256 on these tasks and much faster."""
    configs: dict[str, Any] = {"SAC": sac.Config(), "TD3": td3.Config(), "D4PG": d4pg.Config()}
    return {name: replace(configs[name], hidden_sizes=(64, 64), **changes) for name in names}


def _pqn():
    settings: dict[str, Any] = {"rollout_length": 32, "epochs": 2, "num_minibatches": 8, "learning_rate": 2e-3}
    exploration: dict[str, Any] = {"epsilon_frames": 30_000, "epsilon_final": 0.1}
    return replace(
        pqn.Config(), total_frames=150_000, hidden_sizes=(64, 64), scale_rewards=True, **settings, **exploration
    )


CORES = {"LSTM": "lstm", "GRU": "gru", "minGRU": "min_gru", "LRU": "lru", "transformer": "transformer"}
"""What networks remember with, by the end of a curve's label: PPO-LSTM and so on."""


def _cores(window, total_frames, **changes):
    """PPO with each core, at one set of settings that was tuned for none of them.

    A rollout is longer than twice the longest chain, because no gradient flows into the rollout before.
    """
    shared: Any = replace(
        ppo.Config(),
        num_envs=16,
        rollout_length=256,
        total_frames=total_frames,
        learning_rate=1e-3,
        hidden_sizes=(64,),
        num_cells=64,
        memory_window=window,
        **changes,
    )
    return {f"PPO-{label}": replace(shared, core=core) for label, core in CORES.items()}


ARMS = ("DQN, prioritized", "DQN, not double", "DQN, without replay")
"""Labels of curves in which one thing differs from DQN."""


def _dqn_arms():
    """DQN on Breakout, and what each of its parts is worth."""
    plain: Any = replace(
        dqn.Config(),
        env_id="Breakout-MinAtar",
        total_frames=1_000_000,
        replay_size=100_000,
        learning_starts=5_000,
        updates_per_iteration=4,
        n_step=1,
        dueling=False,
        hidden_sizes=(128,),
        target_update_every=500,
        learning_rate=1e-3,
        epsilon_frames=100_000,
    )
    arms = (
        replace(plain, prioritized=True),
        replace(plain, double=False),
        # A buffer of one rollout: every batch is of the newest frames.
        replace(plain, replay_size=32),
    )
    return {"DQN": plain} | dict(zip(ARMS, arms, strict=True))


def _pqn_minatar(env_id):
    """Settings of Gallici et al. 2024 for MinAtar, with fully connected layers."""
    return replace(
        pqn.Config(),
        env_id=env_id,
        num_envs=128,
        rollout_length=32,
        epochs=2,
        num_minibatches=32,
        total_frames=10_000_000,
        hidden_sizes=(128,),
        learning_rate=5e-4,
        q_lambda=0.65,
        epsilon_final=0.05,
        epsilon_frames=1_000_000,
    )


def _asynchronous(env_id, a3c_rate=7e-4, learning_rate=3e-4, target_update_every=1000, sarsa=None, **changes):
    """A3C and the Q-learning methods of the same paper, each with 16 workers of one environment.

    Rates, scaled rewards and the target network were chosen on other seeds than 0 to 9; ``sarsa`` has what is different
    for SARSA.
    """
    shared: dict[str, Any] = {
        "env_id": env_id,
        "total_frames": 500_000,
        "num_workers": 16,
        "envs_per_worker": 1,
        "asynchrony": Asynchrony("clock", Service("gamma", 0.3)),
    }
    q: dict[str, Any] = {
        "rollout_length": 5,
        "optimizer": optimizers.Adam(learning_rate=learning_rate),
        "target_update_every": target_update_every,
        "epsilon_frames": 150_000,
    }
    one_step: Any = replace(nstep_q.Config(), n_step=1, **shared, **q, **changes)
    return {
        "A3C, one environment a worker": replace(a3c.Config(), learning_rate=a3c_rate, **shared),
        "n-step Q": replace(one_step, n_step=5),
        "one-step Q": one_step,
        "one-step SARSA": replace(one_step, target="sarsa", epsilon_final=(0.05,), **(sarsa or {})),
    }


BEST = {
    "Catch-bsuite": 1.0,
    "DeepSea-bsuite": 0.99,
    "DiscountingChain-bsuite": 1.1,
    "MemoryChain-bsuite": 1.0,
    "UmbrellaChain-bsuite": 1.0,
}
"""The highest mean return of gymnax's environments of bsuite.

Two are left out: MNISTBandit downloads its digits, and SimpleBandit deals its arms anew in every episode of one step,
so that no policy is better than another.
"""


SUITES: dict[str, dict[str, dict[str, Any]]] = {
    # The default settings of each algorithm, the same everywhere.
    "defaults": {
        env_id: both(env_id=env_id, total_frames=500_000) for env_id in ("CartPole-v1", "Acrobot-v1", "Catch-bsuite")
    },
    # The default settings of each algorithm again.
    "bsuite": {
        env_id: {
            name: replace(config, env_id=env_id, total_frames=100_000)
            for name, config in (ALGORITHMS | {"PPO": ppo.Config(), "DQN": dqn.Config()}).items()
        }
        for env_id in BEST
    },
    # What cannot be solved without remembering: the first observation of a chain; velocities, from two positions.
    "memory": {
        "MemoryChain-bsuite": _memory(env_id="MemoryChain-bsuite", total_frames=500_000),
        "CartPole-v1 without velocities": _memory(
            wrappers=Wrappers(observe=(0, 2), normalize_observations=True), total_frames=2_000_000
        ),
    },
    # The same, with chains of many lengths, for every core. Five seeds each.
    "cores": {
        f"MemoryChain-bsuite of {length} steps": _cores(
            length, 300_000, env_id="MemoryChain-bsuite", env_params={"memory_length": float(length)}
        )
        for length in (5, 20, 50, 100)
    }
    | {
        "CartPole-v1 from positions": _cores(
            16, 500_000, wrappers=Wrappers(observe=(0, 2), normalize_observations=True)
        ),
        "Pendulum-v1 from positions": _cores(
            16,
            500_000,
            env_id="Pendulum-v1",
            gamma=0.9,
            gae_lambda=0.9,
            entropy_coefficient=0.0,
            wrappers=replace(NORMALIZED, observe=(0, 1), stagger_resets=200),
        ),
    },
    "continuous": {
        "Pendulum-v1": {
            "A2C": replace(
                a2c.Config(),
                env_id="Pendulum-v1",
                num_envs=8,
                rollout_length=8,
                total_frames=1_000_000,
                learning_rate=1e-3,
                gamma=0.9,
                gae_lambda=0.9,
                entropy_coefficient=0.0,
                activation="relu",
                initial_scale=0.5,
                wrappers=NORMALIZED,
            )
        },
        "MountainCarContinuous-v0": {
            "A2C": replace(
                a2c.Config(),
                env_id="MountainCarContinuous-v0",
                rollout_length=32,
                total_frames=1_000_000,
                gamma=0.995,
                gae_lambda=0.95,
                entropy_coefficient=0.0,
                wrappers=NORMALIZED,
            )
        },
    },
    # Needs the extra "brax". Without a learning rate the policy stays what it was at the start.
    "brax": {
        "brax/inverted_pendulum": {
            label: replace(
                a2c.Config(),
                env_id="brax/inverted_pendulum",
                num_envs=64,
                rollout_length=10,
                total_frames=300_000,
                learning_rate=rate,
                gae_lambda=0.95,
                entropy_coefficient=0.0,
                initial_scale=0.5,
                wrappers=NORMALIZED,
            )
            for label, rate in (("A2C", 1e-3), ("A2C at rate 0", 0.0))
        },
        # Found on seed 100.
        "brax/inverted_double_pendulum": {
            "PPO": replace(
                ppo.Config(),
                env_id="brax/inverted_double_pendulum",
                num_envs=64,
                rollout_length=64,
                num_minibatches=16,
                total_frames=500_000,
                learning_rate=1e-3,
                entropy_coefficient=0.0,
                initial_scale=0.5,
                wrappers=NORMALIZED,
            )
        },
    },
    # Needs the extra "navix". The time limits of the rooms with a key are MiniGrid's. Five seeds each, sampled actions.
    "navix": {
        "Empty-8x8": _grid("navix/Navix-Empty-8x8-v0", total_frames=250_000),
        "DoorKey-5x5": _grid("navix/Navix-DoorKey-5x5-v0", total_frames=500_000, env_kwargs={"max_steps": 250}),
        "DoorKey-8x8": _door_key(),
        "FourRooms": _grid("navix/Navix-FourRooms-v0", total_frames=1_000_000),
    },
    # Needs the extra "craftax". Five seeds, sampled actions.
    "craftax": {"Craftax-Classic-Symbolic": _grid("craftax/Craftax-Classic-Symbolic-v1", total_frames=1_000_000)},
    # What a CPU takes too long for; not measured so far. Needs the extras "brax" and "craftax".
    "gpu": {
        f"{game}-MinAtar": _pgx_minatar(game)
        for game in ("Breakout", "Asterix", "Freeway", "SpaceInvaders", "Seaquest")
    }
    | {
        "brax/hopper": {
            "PPO": replace(
                ppo.Config(),
                env_id="brax/hopper",
                env_kwargs={"backend": "positional"},
                num_envs=2048,
                rollout_length=32,
                num_minibatches=32,
                total_frames=20_000_000,
                learning_rate=3e-4,
                entropy_coefficient=1e-3,
                hidden_sizes=(128, 128),
                wrappers=NORMALIZED,
            )
        },
        "Craftax-Classic-Symbolic": _grid(
            "craftax/Craftax-Classic-Symbolic-v1", num_envs=1024, total_frames=20_000_000
        ),
    },
    # gymnax's rules: no sticky actions, episodes of at most 1000 frames (Freeway: 2500). Five seeds each.
    "minatar": {
        f"{game}-MinAtar": _minatar(game) for game in ("Breakout", "Asterix", "Freeway", "SpaceInvaders", "Seaquest")
    },
    # CartPole's and Pendulum's settings are close to those of RL Baselines3 Zoo, in a tenth of A2C's frames.
    "ppo": {
        "CartPole-v1": {
            "PPO": replace(
                ppo.Config(),
                rollout_length=32,
                epochs=20,
                num_minibatches=1,
                total_frames=100_000,
                learning_rate=1e-3,
                gamma=0.98,
                gae_lambda=0.8,
                entropy_coefficient=0.0,
            )
        },
        "Acrobot-v1": {
            "PPO": replace(
                ppo.Config(),
                env_id="Acrobot-v1",
                # RL Baselines3 Zoo's settings, with more passes and a higher rate; found on seeds 200 to 205.
                num_envs=16,
                rollout_length=256,
                total_frames=1_000_000,
                epochs=10,
                num_minibatches=64,
                learning_rate=1e-3,
                gae_lambda=0.94,
                entropy_coefficient=0.0,
                wrappers=Wrappers(normalize_observations=True),
            )
        },
        "MountainCar-v0": {
            "PPO": replace(
                ppo.Config(),
                env_id="MountainCar-v0",
                num_envs=16,
                total_frames=1_000_000,
                learning_rate=1e-3,
                gae_lambda=0.98,
                entropy_coefficient=0.01,
                wrappers=NORMALIZED,
            )
        },
        "Pendulum-v1": {
            "PPO": replace(
                ppo.Config(),
                env_id="Pendulum-v1",
                num_envs=4,
                rollout_length=512,
                epochs=10,
                num_minibatches=32,
                total_frames=100_000,
                learning_rate=1e-3,
                gamma=0.9,
                gae_lambda=0.9,
                entropy_coefficient=0.0,
                activation="relu",
                wrappers=replace(NORMALIZED, stagger_resets=200),
            )
        },
    },
    "ppo_minatar": {f"{game}-MinAtar": _ppo_minatar(env_id=f"{game}-MinAtar") for game in ("Breakout", "Freeway")},
    # Five seeds each.
    "ppo_minatar_more": {
        f"{game}-MinAtar": _ppo_minatar(env_id=f"{game}-MinAtar") for game in ("Asterix", "SpaceInvaders", "Seaquest")
    },
    # Settings found on seeds 100 to 104.
    "replay": {
        "CartPole-v1": {
            "DQN": dqn.Config(),
            "SAC": replace(sac.Config(), env_id="CartPole-v1", hidden_sizes=(64, 64), batch_size=64),
            "PQN": _pqn(),
        },
        "Acrobot-v1": _dqn(
            env_id="Acrobot-v1",
            total_frames=100_000,
            gamma=0.995,  # this, layer normalization and the updates: the best of 28 changes, on seeds 200 to 205
            epsilon_frames=12_000,
            epsilon_final=0.02,
            hidden_sizes=(128, 128),
            layer_norm=True,
            batch_size=128,
            updates_per_iteration=32,
            n_step=5,
            target_update_every=250,
            learning_rate=1e-3,
        ),
        # Random actions that last, for the same reason as the noise on MountainCarContinuous.
        "MountainCar-v0": _dqn(
            env_id="MountainCar-v0",
            total_frames=120_000,
            rollout_length=16,
            updates_per_iteration=64,
            target_update_every=200,
            epsilon_frames=30_000,
            epsilon_final=0.1,
            noise_repeat=8,
            gamma=0.98,
            hidden_sizes=(128, 128),
            learning_rate=1e-3,
            dueling=False,
            normalize_observations=True,
        ),
        "Pendulum-v1": _continuous(("SAC", "TD3", "D4PG"), total_frames=20_000),
        # Noise that lasts, because single random actions do not move the car out of the valley.
        "MountainCarContinuous-v0": _continuous(
            ("SAC",),
            env_id="MountainCarContinuous-v0",
            rollout_length=32,
            updates_per_iteration=32,
            noise_repeat=16,
            gamma=0.999,
        ),
    },
    "replay_memory": {
        "MemoryChain-bsuite": {
            "R2D2": replace(r2d2.Config(), env_id="MemoryChain-bsuite"),
            **_dqn(env_id="MemoryChain-bsuite", total_frames=200_000),
        },
        "CartPole-v1 without velocities": {
            "R2D2": replace(
                r2d2.Config(),
                wrappers=Wrappers(observe=(0, 2), normalize_observations=True),
                total_frames=300_000,
                anneal_learning_rate=True,
            )
        },
    },
    # Five seeds each.
    "replay_minatar": {"Breakout-MinAtar": _dqn_arms()},
    "pqn_minatar": {
        f"{game}-MinAtar": {"PQN": _pqn_minatar(f"{game}-MinAtar")}
        for game in ("Breakout", "Asterix", "Freeway", "SpaceInvaders")
    },
    # The methods of Mnih et al. 2016, on the clock.
    "nstep_q": {
        "CartPole-v1": _asynchronous(
            "CartPole-v1", a3c_rate=1e-3, scale_rewards=True, sarsa={"target_update_every": 200}
        ),
        "Acrobot-v1": _asynchronous("Acrobot-v1", a3c_rate=2e-3, scale_rewards=True),
        "Catch-bsuite": _asynchronous("Catch-bsuite"),
    },
    "reinforce": {
        "CartPole-v1": {
            "REINFORCE": reinforce.Config(),
            "REINFORCE without baseline": replace(reinforce.Config(), baseline="none", learning_rate=3e-3),
            "one-step actor-critic": replace(a2c.Config(), gae_lambda=0.0),
        }
    },
    # One way out of 256 pays, and every step of it costs: what does not explore learns to stay.
    "rnd": {"DeepSea-bsuite": _deep_sea()},
}
