"""What the command line says and draws: each command, and runs that are interrupted, resumed, diverged or logged.

``python -m benchmarks.runs`` starts them and writes what each of them prints. In the text, the temporary folder is
called ``FOLDER``. Pictures go to docs/images.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import tyro

from benchmarks import record
from benchmarks.record import save

FRAMES = 200_000
IMAGES = record.ROOT / "docs" / "images"
PROGRAM = [sys.executable, "-m", "purejaxrl_a3c"]


class Terminal:
    """Starts commands in a temporary folder and keeps what they print."""

    def __init__(self, folder: Path) -> None:
        """Start without a cache of compiled programs."""
        self._folder = folder
        self.texts: list[dict[str, str]] = []

    def run(self, title: str, *arguments: str, interrupt_after: int = 0) -> None:
        """Run a command; with ``interrupt_after``, send Ctrl-C after so many rows of metrics."""
        process = subprocess.Popen(
            [*PROGRAM, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self._folder,
            env=os.environ | {"XDG_CACHE_HOME": str(self._folder / "cache"), "COLUMNS": "120"},
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        if interrupt_after:
            self._wait(process, interrupt_after)
            process.send_signal(signal.SIGINT)
        output, _ = process.communicate()
        command = "purejaxrl-a3c " + " ".join(arguments)
        text = output.replace(str(self._folder), "FOLDER")
        self.texts.append({"title": title, "command": command, "text": text, "status": str(process.returncode)})

    def keep(self, path: str, name: str) -> None:
        """Keep a picture that the last command has drawn."""
        if (self._folder / path).exists():
            IMAGES.mkdir(exist_ok=True)
            shutil.copyfile(self._folder / path, IMAGES / name)
            self.texts[-1]["picture"] = name

    def _wait(self, process: subprocess.Popen[str], rows: int) -> None:
        files = list((self._folder / "runs").glob("*/metrics.csv"))
        while process.poll() is None:
            new = [path for path in (self._folder / "runs").glob("*/metrics.csv") if path not in files]
            if new and new[0].read_text().count("\n") > rows:
                return
            time.sleep(0.05)

    def last_run(self) -> str:
        """The newest folder in runs/."""
        newest = max((self._folder / "runs").iterdir(), key=lambda path: path.stat().st_mtime_ns)
        return f"runs/{newest.name}"


def markdown(texts: list[dict[str, str]]) -> str:
    """What `Terminal` kept, as a page."""
    pages = []
    for one in texts:
        shown = f"$ {one['command']}\n{one['text'].rstrip()}"
        page = f"## {one['title']}\n\nExit status {one['status']}.\n\n```text\n{shown}\n```\n"
        if "picture" in one:
            page += f"\n![{one['title']}](../../docs/images/{one['picture']})\n"
        pages.append(page)
    return "\n".join(pages)


def main(frames: int = FRAMES, logged_frames: int = 6_000_000) -> None:
    """Run all of them, and write results/runs.json and .md.

    Args:
        frames: of most runs.
        logged_frames: of the run that is long enough for lines of progress.
    """
    with tempfile.TemporaryDirectory() as folder:
        terminal = Terminal(Path(folder))
        short = ("--total-frames", str(frames))
        terminal.run("A first run", "train", *short)
        terminal.run("The same command again", "train", *short)
        terminal.run("Interrupted with Ctrl-C", "train", "--total-frames", str(100 * frames), interrupt_after=100)
        run = terminal.last_run()
        terminal.run("Resumed, with another end", "train", "--resume", run, "--total-frames", str(2 * frames))
        terminal.run("Resumed when it is complete", "train", "--resume", run)
        terminal.run("Evaluated later", "evaluate", run, "--json")
        terminal.run("Watched", "watch", run, "--max-frames", "150", "--out", "agent.gif")
        terminal.keep("agent.gif", "watch.gif")
        formats = ("--format", "stablehlo", "safetensors", "onnx")
        terminal.run("Exported for other programs", "export", run, "--out", "policy", *formats)
        terminal.run("Five seeds side by side", "train", "a2c", *short, "--num-seeds", "5", "--out", "runs/a2c")
        terminal.keep("runs/a2c/learning_curves.png", "seeds.png")
        terminal.run("Evaluated together", "evaluate", *(f"runs/a2c/seed-{seed}" for seed in range(5)))
        slow = ("--learning-rate", "1e-3")
        terminal.run("Five more", "train", "a2c", *short, *slow, "--num-seeds", "5", "--out", "runs/slow")
        both = [f"runs/{name}/seed-{seed}" for name in ("a2c", "slow") for seed in range(5)]
        terminal.run("Compared", "compare", *both, "--out", "comparison.png")
        terminal.keep("comparison.png", "compare.png")
        settings = ("--learning-rate", "log:1e-4:3e-2:6", "--entropy-coefficient", "0,0.01,0.1")
        terminal.run("A sweep", "sweep", "a2c", *short, *settings, "--seeds", "2", "--out", "runs/sweep")
        terminal.keep("runs/sweep/sweep.png", "sweep.png")
        terminal.run("With the best settings", "train", "--config", "runs/sweep/best.json", "--seed", "1")
        terminal.run("What is installed", "doctor")
        terminal.run("An environment is tried", "doctor", "--env", "Pendulum-v1")
        terminal.run("Names of environments", "envs")
        terminal.run("Diverged", "train", "a2c", *short, "--learning-rate", "1e30", "--json")
        terminal.run("Logged to a file", "train", "a2c", "--total-frames", str(logged_frames))
        terminal.run("Input that is not accepted", "train", "--learning-rate", "-1")
    text = (
        "What the command line prints and draws; standard error goes to a file.\n\n" + markdown(terminal.texts) + "\n"
    )
    save("runs", {"results": terminal.texts}, text)


if __name__ == "__main__":
    tyro.cli(main)
