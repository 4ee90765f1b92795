"""Runs of `python -m wagi.train` kept by what they are: the same settings are never trained twice.

A run's folder is RUNS/STAGE-HASH, the hash of its settings (budget and seed among them), its data and its
frozen parts. A stopped run goes on where it was; a finished one is used as it is.
"""

import contextlib
import hashlib
import json
import signal
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import active_children, get_context
from pathlib import Path

from wagi import checkpoint, config, train
from wagi.errors import UserError
from wagi.files import write_json

DIGITS = 12


@dataclass(frozen=True)
class Task:
    """One run: a stage of wagi.train, its `--set` texts and the checkpoint of its frozen parts."""

    stage: str
    label: str  # for progress only
    overrides: tuple[tuple[str, str], ...]
    frozen: Path | None = None


def digest(value: object) -> str:
    """A short name of plain data."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:DIGITS]


def data_identity(data: str) -> str:
    """The identity of a data set, wherever its folder lies."""
    meta = Path(data) / "meta.json"
    return meta.read_text() if meta.is_file() else str(data)


def _set(settings: config.ModelConfig | config.TrainConfig) -> dict:
    """The settings that are not at their defaults: one that is added later makes no run another one."""
    defaults = config.to_dict(type(settings)())
    return {name: value for name, value in config.to_dict(settings).items() if value != defaults[name]}


@dataclass(frozen=True)
class Runs:
    """The folder of runs. `jobs` runs are trained side by side, each with `threads` threads."""

    folder: Path
    preset: str
    data: str
    jobs: int = 1
    threads: int = 1
    device: str = ""
    words: tuple[str, ...] = ()  # further options of wagi.train: weight files of the losses

    def folder_of(self, task: Task) -> Path:
        """The folder of the task's run; the same for every task that computes the same."""
        model, settings = config.settings(self.preset, task.stage, dict(task.overrides))
        frozen = hashlib.sha256(task.frozen.read_bytes()).hexdigest() if task.frozen else ""
        identity = [_set(model), _set(settings), data_identity(self.data), frozen]
        # Weight files make another run where a loss or a start needs them.
        uses = [getattr(settings, name, 0) for name in ("lambda_lpips", "lambda_id")]
        identity += [list(self.words)] if self.words and (any(uses) or task.stage == "encoder") else []
        return self.folder / f"{task.stage}-{digest(identity)}"

    def finished(self, task: Task) -> bool:
        path = self.folder_of(task) / "checkpoint.pt"
        if not path.is_file():
            return False
        _, settings = config.settings(self.preset, task.stage, dict(task.overrides))
        training = checkpoint.read(path)["training"]
        waited = training.get("patience", {}).get("waited", 0)
        return training["step"] >= settings.steps or 0 < settings.patience <= waited

    def train(self, tasks: Sequence[Task]) -> list[Path]:
        """Train what is not there yet => the checkpoint of each task, in order.

        Raises:
            UserError: a run failed; its own message and the name of its log.
            KeyboardInterrupt: a run was stopped by a signal, and saved.
        """
        folders = {task: self.folder_of(task) for task in tasks}
        waiting = {folders[task]: task for task in tasks if not self.finished(task)}
        if waiting:
            kept = len(set(folders.values())) - len(waiting)
            _say(f"{len(waiting)} runs to train, {kept} are there already")
            self._work([(self._arguments(task, folder), task.label) for folder, task in waiting.items()])
        return [folders[task] / "checkpoint.pt" for task in tasks]

    def _arguments(self, task: Task, folder: Path) -> list[str]:
        words = [task.stage, "--preset", self.preset, "--data", self.data, "--out", str(folder)]
        words += ["--threads", str(self.threads), "--device", self.device]
        words += [word for name, text in task.overrides for word in ("--set", f"{name}={text}")]
        words += self.words
        return words + (["--encoder", str(task.frozen)] if task.frozen else [])

    def _work(self, runs: list[tuple[list[str], str]]) -> None:
        def done(number: int, label: str, seconds: float) -> None:
            _say(f"run {number} of {len(runs)}: {label}, {seconds:.0f} s")

        if self.jobs == 1 or len(runs) == 1:
            for number, (words, label) in enumerate(runs, 1):
                done(number, label, train_run(words))
            return
        # Spawned: a forked child would inherit the parent's arithmetic threads in an unknown state.
        pool = ProcessPoolExecutor(self.jobs, get_context("spawn"), _ignore_interrupt)
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            futures = [pool.submit(train_run, words) for words, _ in runs]
            for number, (future, (_, label)) in enumerate(zip(futures, runs, strict=True), 1):
                done(number, label, future.result())
        except KeyboardInterrupt:
            for worker in active_children():
                worker.terminate()  # its run saves and stops
            raise
        finally:
            pool.shutdown(cancel_futures=True)
            signal.signal(signal.SIGTERM, before)


def train_run(words: list[str]) -> float:
    """`python -m wagi.train` in this process, its output in RUN/log.txt => seconds it took."""
    folder = Path(words[words.index("--out") + 1])
    folder.mkdir(parents=True, exist_ok=True)
    log, start = folder / "log.txt", time.monotonic()
    with open(log, "a") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        status = train.main(words)
    if status > 128:
        raise KeyboardInterrupt
    if status:
        last = log.read_text().strip().splitlines()[-1].removeprefix("error: ")
        raise UserError(f"{last} (in {log})", status)
    return time.monotonic() - start


def _ignore_interrupt() -> None:
    """Ctrl-C reaches every process; a worker's run saves and stops, an idle worker waits for the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def kept_json(path: Path, make: Callable[[], dict]) -> dict:
    """The JSON in `path`, made and written there the first time."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, make())
    return json.loads(path.read_text())
