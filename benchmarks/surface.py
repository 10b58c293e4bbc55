"""The size of the code that a reader meets, in two commits: lines, annotations, longest function, words of the README.

``python -m benchmarks.surface BEFORE [AFTER]`` reads the files of both commits from git and writes
``results/surface.json`` and ``results/surface.md``.
"""

import ast
import subprocess
from pathlib import Path
from typing import Annotated, NamedTuple

import tyro

from benchmarks.record import markdown_table, save

ROOT = Path(__file__).parents[1]
PACKAGE = "purejaxrl_a3c"


class Surface(NamedTuple):
    """What is counted in one commit."""

    algorithm_lines: int  # lines of the files in algorithms/
    package_lines: int
    arguments: int  # of functions, without self and cls
    annotated_arguments: int
    longest_function: str  # its name and lines
    functions_over_60_lines: int
    longest_file: str
    readme_words: int


def git(*arguments: str) -> str:
    """Standard output of a git command."""
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def measure(commit: str) -> Surface:
    """Count in the files of ``commit``."""
    paths = git("ls-tree", "-r", "--name-only", commit).split("\n")
    sources = {p: git("show", f"{commit}:{p}") for p in paths if p.startswith(PACKAGE) and p.endswith(".py")}
    functions = [
        (path, node)
        for path, source in sources.items()
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef)
    ]
    arguments = [
        argument
        for _, node in functions
        for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
        if argument.arg not in ("self", "cls")
    ]
    lengths = {f"{Path(path).stem}.{node.name}": (node.end_lineno or 0) - node.lineno + 1 for path, node in functions}
    lines = {path: source.count("\n") for path, source in sources.items()}
    longest, largest = max(lengths, key=lengths.__getitem__), max(lines, key=lines.__getitem__)
    return Surface(
        algorithm_lines=sum(n for path, n in lines.items() if "/algorithms/" in path),
        package_lines=sum(lines.values()),
        arguments=len(arguments),
        annotated_arguments=sum(argument.annotation is not None for argument in arguments),
        longest_function=f"{longest}: {lengths[longest]}",
        functions_over_60_lines=sum(n > 60 for n in lengths.values()),
        longest_file=f"{Path(largest).name}: {lines[largest]}",
        readme_words=len(git("show", f"{commit}:README.md").split()),
    )


def main(
    before: Annotated[str, tyro.conf.Positional],
    after: Annotated[str, tyro.conf.Positional] = "HEAD",
) -> None:
    """Count in both commits and write the table.

    Args:
        before: a commit.
        after: another one.
    """
    after = git("rev-parse", "--short", after).strip()
    found = {commit: measure(commit)._asdict() for commit in (before, after)}
    rows = [[name.replace("_", " "), *(str(one[name]) for one in found.values())] for name in Surface._fields]
    save("surface", {"results": found}, markdown_table(["", *found], rows))


if __name__ == "__main__":
    tyro.cli(main)
