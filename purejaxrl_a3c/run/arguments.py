"""What the arguments of each command of the command line ask for."""

import contextlib
import functools
import io
import operator
from collections.abc import Container
from pathlib import Path
from typing import Annotated, Any

import jax
import tyro

from purejaxrl_a3c.checks import reject
from purejaxrl_a3c.config import flat, replace
from purejaxrl_a3c.run.algorithms import ALGORITHMS, DEFAULT
from purejaxrl_a3c.run.export import Format
from purejaxrl_a3c.run.flags import docstrings, flags_of, read_flags, subcommand
from purejaxrl_a3c.run.options import Options
from purejaxrl_a3c.run.request import Request, read_config, read_earlier, value_of
from purejaxrl_a3c.run.session import Elsewhere
from purejaxrl_a3c.run.tuned import tuned


def parse_train(argv: list[str]) -> Request:
    """What the arguments ask for; exits with a message if they do not parse.

    Raises:
        InputError: if there is no run to resume where ``--resume`` says.
    """
    folder = value_of("--resume", argv)
    earlier = read_earlier(Path(folder)) if folder is not None else None
    # Everything that is not given is as it was, or as it is by default.
    configs = ALGORITHMS if earlier is None else ALGORITHMS | {earlier.name: earlier.config}
    before, default = (Options(), DEFAULT) if earlier is None else (earlier.options, earlier.name)
    file = value_of("--config", argv)
    if file is not None:
        if earlier is not None:
            reject("config", file, "left out: a resumed run has settings of its own")
        default, config = read_config(Path(file))
        configs = ALGORITHMS | {default: config}
    # An algorithm need not be named.
    rest = argv[1:]
    if argv[:1] == ["train"] and (not rest or rest[0].startswith("-")) and rest not in (["-h"], ["--help"]):
        argv = ["train", default, *rest]
    if "--tuned" in argv and argv[1] in configs:
        if folder is not None or file is not None:
            reject("tuned", True, "left out: the settings are those of another run")
        env_id = value_of("--env-id", argv) or flat(configs[argv[1]])["env_id"]
        configs = ALGORITHMS | {argv[1]: tuned(argv[1], env_id)}

    def read(asked: Container[str]) -> tuple[str, dict[str, Any], Options]:
        """What the arguments say, with flags for these algorithms; of the others tyro knows the names alone."""

        def train(algorithm: Any) -> tuple[str, dict[str, Any], Options]:
            """Train an agent and evaluate it."""
            return type(algorithm).__name__, *read_flags(algorithm)

        algorithms = (
            flags_of(name, config, before) if name in asked else subcommand(name, config)
            for name, config in configs.items()
        )
        train.__annotations__["algorithm"] = functools.reduce(operator.or_, algorithms)
        app = tyro.extras.SubcommandApp()
        app.command(train)
        return app.cli(
            prog="purejaxrl-a3c",
            args=argv,
            description="Reinforcement-learning runs as pure functions.",
            config=(tyro.conf.OmitArgPrefixes,),
        )

    # Making flags takes long, so only those that are asked for are made. But help, and what tyro says of a flag that
    # this algorithm lacks and another has, need all of them.
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            name, values, options = read([argv[1]] if argv[1:2] and argv[1] in configs else configs)
    except SystemExit:
        name, values, options = read(configs)
    name = name.replace("_", "-")
    if file is not None and name != default:
        reject("algorithm", name, f"{default}, of which the settings in {file} are")
    return Request(name, replace(configs[name], **values), options, earlier)


def parse_evaluate(argv: list[str]) -> tuple[list[Path], Options, Elsewhere]:
    """Folders, options and surroundings of ``evaluate``; exits with a message if the arguments do not parse."""
    texts = docstrings(Options)

    def described(name: str, kind: Any) -> Any:
        return Annotated[kind, tyro.conf.arg(help=texts[name])]

    def evaluate(
        runs: tyro.conf.Positional[list[Path]],
        evaluation_episodes: int = Options.evaluation_episodes,
        sample_actions: bool = False,
        seed: int = 0,
        json: bool = False,
        env_id: Annotated[
            str | None, tyro.conf.arg(help="Another environment than that of training, which looks like it.")
        ] = None,
        opponent: Annotated[
            str | None,
            tyro.conf.arg(help="Opponent in a game for two: random, lookahead, or the folder of another run like it."),
        ] = None,
    ) -> tuple[list[Path], Options, Elsewhere]:
        """Evaluate the trained agents in the folders of runs, in which nothing is changed."""
        options = Options(seed=seed, evaluation_episodes=evaluation_episodes, sample_actions=sample_actions, json=json)
        return runs, options, Elsewhere(env_id, opponent)

    for name in ("evaluation_episodes", "sample_actions", "json"):
        evaluate.__annotations__[name] = described(name, evaluate.__annotations__[name])
    runs, options, elsewhere = tyro.cli(evaluate, prog="purejaxrl-a3c evaluate", args=argv)
    if not runs:
        reject("runs", "nothing", "at least one folder of a run")
    return runs, options, elsewhere


def parse_compare(argv: list[str]) -> tuple[list[Path], Path]:
    """The folders and the picture of ``compare``; exits with a message if the arguments do not parse."""

    def compare(
        runs: tyro.conf.Positional[list[Path]],
        out: Annotated[Path, tyro.conf.arg(help="The picture; its suffix says the format.")] = Path("comparison.png"),
    ) -> tuple[list[Path], Path]:
        """Compare the runs in these folders: curves and returns of those that differ in more than their seeds."""
        return runs, out

    runs, out = tyro.cli(compare, prog="purejaxrl-a3c compare", args=argv)
    if not runs:
        reject("runs", "nothing", "at least one folder of a run")
    return runs, out


def parse_export(argv: list[str]) -> tuple[Path, Path, tuple[Format, ...]]:
    """Run, folder and formats of ``export``; exits with a message if the arguments do not parse."""

    def export(
        run: tyro.conf.Positional[Path],
        out: Annotated[Path | None, tyro.conf.arg(help="Folder for the files; by default that of the run.")] = None,
        format: Annotated[tuple[Format, ...], tyro.conf.arg(help="Which.")] = ("stablehlo",),
    ) -> tuple[Path, Path, tuple[Format, ...]]:
        """Write the trained policy of a run, for programs without this package."""
        return run, run if out is None else out, format

    return tyro.cli(export, prog="purejaxrl-a3c export", args=argv)


def parse_doctor(argv: list[str]) -> tuple[str | None, dict[str, Any]]:
    """The environment of ``doctor`` and its arguments; exits with a message if the command does not parse."""

    def doctor(
        env: Annotated[
            str | None,
            tyro.conf.arg(help="Try this environment instead: my_module:make_env, or any other name of one."),
        ] = None,
        env_kwargs: Annotated[
            dict[str, bool | int | float | str], tyro.conf.arg(help="Arguments for what makes it, by name.")
        ] = {},  # noqa: B006  (tyro copies it)
    ) -> tuple[str | None, dict[str, Any]]:
        """Say what is installed and whether JAX computes rightly here, or what is wrong with an environment."""
        return env, dict(env_kwargs)

    return tyro.cli(doctor, prog="purejaxrl-a3c doctor", args=argv)


def parse_watch(argv: list[str]) -> tuple[Path, Path, dict[str, Any]]:
    """Run, file and options of ``watch``; exits with a message if the arguments do not parse."""

    def watch(
        run: tyro.conf.Positional[Path],
        out: Annotated[
            Path | None, tyro.conf.arg(help="File, .gif or .mp4; by default watch.gif in the folder of the run.")
        ] = None,
        episodes: Annotated[int, tyro.conf.arg(help="Episodes after which it ends.")] = 1,
        max_frames: Annotated[int, tyro.conf.arg(help="Pictures after which it ends at the latest.")] = 1000,
        fps: Annotated[int, tyro.conf.arg(help="Pictures a second.")] = 30,
        sample_actions: Annotated[bool, tyro.conf.arg(help="Sample actions instead of the most probable.")] = False,
        seed: Annotated[int, tyro.conf.arg(help="Seed of the environment and of sampled actions.")] = 0,
    ) -> tuple[Path, Path, dict[str, Any]]:
        """Draw the trained agent of a run: pictures of the environment, probabilities of actions, value and return."""
        options = {"episodes": episodes, "max_frames": max_frames, "fps": fps, "deterministic": not sample_actions}
        return run, run / "watch.gif" if out is None else out, options | {"key": jax.random.key(seed)}

    return tyro.cli(watch, prog="purejaxrl-a3c watch", args=argv)
