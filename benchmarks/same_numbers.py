"""Whether two commits train the same agents: final parameters of the contract battery, compared bit for bit.

``python -m benchmarks.same_numbers BEFORE [AFTER]`` checks each commit out into a temporary folder, trains every config
of its ``tests/test_contract.py`` there with the same key, and compares the final parameters. It is how a change of the
code's structure shows that it changes no numbers.
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from benchmarks.record import markdown_table, save

ROOT = Path(__file__).parents[1]
TRAIN = """
import sys
import jax
import numpy as np
from test_contract import CONFIGS
from purejaxrl_a3c import make_train

found = {}
for name, config in CONFIGS.items():
    params = jax.jit(make_train(config))(jax.random.key(0)).state.learner.params
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        found[f"{name} {jax.tree_util.keystr(path)}"] = np.asarray(leaf)
np.savez(sys.argv[1], **found)
"""


def train(tree: Path) -> dict[str, np.ndarray]:
    """Final parameters of every config in the contract battery of the checkout ``tree``, by config and path."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "params.npz"
        paths = f"import sys; sys.path[:0] = [{str(tree)!r}, {str(tree / 'tests')!r}]\n"
        subprocess.run([sys.executable, "-c", paths + TRAIN, str(file)], cwd=tree, check=True)
        with np.load(file) as arrays:
            return dict(arrays)


def train_commit(commit: str) -> dict[str, np.ndarray]:
    """As `train`, of a commit; an empty name is the working tree as it is."""
    if not commit:
        return train(ROOT)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["git", "worktree", "add", "--detach", "--quiet", folder, commit], cwd=ROOT, check=True)
        try:
            return train(Path(folder))
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", folder], cwd=ROOT, check=True)


def compare(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> list[list[str]]:
    """A row for every config: its name, how many numbers there are, how many differ, and by how much at most."""
    rows = []
    for name in sorted({key.partition(" ")[0] for key in before}):
        keys = sorted(key for key in before | after if key.partition(" ")[0] == name)
        same_names = all(key in before and key in after for key in keys)
        size = f"{sum(before[key].size for key in keys if key in before):,}"
        if not same_names:
            rows.append([name, size, "other arrays", ""])
            continue
        gaps = np.concatenate([np.abs(before[key] - after[key]).ravel() for key in keys])
        rows.append([name, size, f"{np.count_nonzero(gaps)}", f"{gaps.max():.0e}" if gaps.any() else ""])
    return rows


def main(
    before: Annotated[str, tyro.conf.Positional],
    after: Annotated[str, tyro.conf.Positional] = "",
) -> None:
    """Compare two commits and write results/same_numbers.json and .md.

    Args:
        before: a commit.
        after: another one; the working tree if left out.
    """
    rows = compare(train_commit(before), train_commit(after))
    title = f"Final parameters of the contract battery, {before} and {after or 'the working tree'}, bit for bit.\n\n"
    data = {"before": before, "after": after, "results": rows}
    save("same_numbers", data, title + markdown_table(["config", "parameters", "that differ", "by at most"], rows))
    if any(differ != "0" for _, _, differ, _ in rows):
        sys.exit(1)


if __name__ == "__main__":
    tyro.cli(main)
