"""The one training loop. A stage says what to optimise; the loop does everything else.

All randomness of a step is seeded by (seed, step, process, phase, micro-batch), and the data order by (seed,
step). A checkpoint therefore needs no generator states or sampler positions, and a resumed run on the CPU
ends with the same bits as an uninterrupted one.
"""

import contextlib
import math
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from wagi import checkpoint
from wagi.config import FREE_ON_RESUME, SAID_ON_RESUME, ModelConfig, to_dict
from wagi.data import Dataset, Item
from wagi.errors import UserError
from wagi.loader import Loader, Order
from wagi.training import distributed
from wagi.training.averages import Averages
from wagi.training.images import Scalars
from wagi.training.logs import Log, save_grid
from wagi.training.stage import Stage
from wagi.training.validation import LOSS, Judged, Patience

GRID_ROWS = 8


def step_seed(*key: int) -> int:
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)


class Trainer:
    """One run in one folder: RUN/checkpoint.pt, metrics.jsonl, tensorboard/, grids/."""

    def __init__(
        self,
        stage: Stage,
        data: Dataset,
        run: Path,
        device: torch.device,
        rank: int,
        world: int,
        workers: int,
        validation: Dataset | None = None,
    ) -> None:
        self.stage, self.data, self.run, self.device = stage, data, run, device
        self.rank, self.world = rank, world
        self.config = config = stage.config
        for model in (*stage.models.values(), *stage.frozen.values(), *stage.helpers):
            model.to(device)
        self.averages = Averages(stage.models, stage.averaged)
        self.judged, self.patience = Judged(data, validation, config.holdout), Patience(config.patience)
        self.scalers = {
            name: torch.amp.GradScaler(device.type, enabled=config.precision == "fp16")
            for name in stage.optimizers
        }
        self.total = config.steps
        order = Order(len(data) - config.holdout, config.batch, config.seed, config.holdout, config.flip)
        self.loader = Loader(data, order, config.accumulate, rank, world, workers)
        self.step = self.images = 0
        self.interrupted = 0  # the signal that asked to stop

    # -------------------------------------------------------------------------------------- the loop

    def train(self) -> int:
        """Train to the end or to a signal; returns the exit status."""
        if (self.run / "checkpoint.pt").is_file():
            self.resume()
        if self.step >= self.total:
            self._say(f"{self.run}: already trained to step {self.step}; a larger --kimg goes on")
            return 0
        if self.patience.over:
            self._say(f"{self.run}: ended at step {self.step} ({self.patience}); a larger patience goes on")
            return 0
        log = Log(self.run, self.step, self.images, self.total, self.config.batch) if self.rank == 0 else None
        self._say(
            f"{self.stage.name}: step {self.step} of {self.total}, {len(self.data)} images, {self.device}"
        )
        self._say(f"judged by {self.judged.count} pictures: {self.judged.name}")
        self.stage.train_mode()
        with self._signals():
            for batches in self.loader.steps(self.step):
                scalars = self.train_step(batches)
                self.step, self.images = self.step + 1, self.images + self.config.batch
                self.averages.update(self.step, self.config.batch, self.config.ema_kimg * 1000)
                last = self.step >= self.total or distributed.any_of(
                    bool(self.interrupted), self.world, self.device
                )
                if log is not None:
                    self._report(log, scalars, last)
                last |= distributed.any_of(self.patience.over, self.world, self.device)
                if log is not None:
                    self._keep(log, last)
                if last:
                    break
        self.loader.close()
        distributed.barrier(self.world)
        if self.patience.over:
            self._say(f"ended at step {self.step}: {self.patience}, whose weights are kept")
        elif self.interrupted and self.step < self.total:
            self._say(f"stopped at step {self.step} and saved; the same command goes on from there")
            return 128 + self.interrupted
        return 0

    def train_step(self, batches: list[Item]) -> Scalars:
        """All optimiser steps of one training step on `accumulate` micro-batches."""
        batches = [
            {key: value.to(self.device, non_blocking=True) for key, value in b.items()} for b in batches
        ]
        logged: Scalars = {}
        for number, phase in enumerate(self.stage.phases(self.step)):
            optimizer, scaler = self.stage.optimizers[phase.optimizer], self.scalers[phase.optimizer]
            self._train_only(optimizer)
            for micro, batch in enumerate(batches):
                rng = self._seed(number, micro)
                with self._autocast(phase.fp32):
                    loss, scalars = phase.loss(batch, rng)
                scaler.scale(loss / len(batches)).backward()
                for name, value in scalars.items():
                    logged[name] = logged.get(name, 0) + value.detach() / len(batches)
            scaler.unscale_(optimizer)
            distributed.average(
                (p.grad for g in optimizer.param_groups for p in g["params"] if p.grad is not None),
                self.world,
            )
            if self.config.clip:
                trained = [p for group in optimizer.param_groups for p in group["params"]]
                torch.nn.utils.clip_grad_norm_(trained, self.config.clip)
            self._set_rate(optimizer)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=True)
        if self.world > 1:
            buffers = (b for m in self.stage.models.values() for b in m.buffers() if b.is_floating_point())
            distributed.average(buffers, self.world)
        return logged

    def _report(self, log: Log, scalars: Scalars, last: bool) -> None:
        log.add(scalars)
        every, judged = self.config, self.step % self.config.grid_every == 0
        if self.step % every.log_every == 0 or last or (every.patience and judged):
            log.write(self.step)
        with log.paused():
            if judged or (last and not self.interrupted):
                self._evaluate(log)

    def _keep(self, log: Log, last: bool) -> None:
        every = self.config
        with log.paused():
            if self.step % every.save_every == 0 or last:
                log.check(self.step)
                self.save()
            if every.snapshot_every and self.step % every.snapshot_every == 0:
                self.save(f"step-{self.step:07d}.pt")
        if last:
            log.close()

    # ------------------------------------------------------------------------------------- its pieces

    def _train_only(self, optimizer: Optimizer) -> None:
        for model in self.stage.models.values():
            model.requires_grad_(False)
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.requires_grad_(True)

    def _seed(self, phase: int, micro: int) -> torch.Generator:
        seed = step_seed(self.config.seed, 3, self.step, self.rank, phase, micro)
        torch.manual_seed(seed)
        return torch.Generator().manual_seed(seed + 1)

    def _autocast(self, off: bool) -> contextlib.AbstractContextManager:
        dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.config.precision)
        if dtype is None or off:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=dtype)

    def _set_rate(self, optimizer: Optimizer) -> None:
        ramp = self.config.lr_rampdown * self.total
        left = self.total - self.step
        scale = 0.5 - 0.5 * math.cos(math.pi * left / ramp) if left < ramp else 1.0
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * scale

    def inference_models(self) -> dict[str, nn.Module]:
        return {**self.stage.frozen, **self.averages.models}

    @torch.no_grad()
    def _evaluate(self, log: Log) -> None:
        """Numbers and a picture grid of the pictures that the run is judged by."""
        models, judged = self.inference_models(), self.judged
        torch.manual_seed(self.config.seed)
        means = judged.means(self.stage, models, self.device)
        log.record(self.step, {f"eval/{name}": round(value, 6) for name, value in means.items()})
        shown = "  ".join(f"{name} {value:.4g}" for name, value in means.items())
        print(f"  {judged.name}: {shown}", file=sys.stderr, flush=True)
        if LOSS in means and self.stage.settled(self.step):
            self.patience.see(means[LOSS], self.step, self.averages.models)
        images, columns = self.stage.grid(models, judged.first(GRID_ROWS, self.device))
        (self.run / "grids").mkdir(exist_ok=True)
        save_grid(self.run / "grids" / f"step-{self.step:07d}.png", images, columns)

    # ------------------------------------------------------------------------------- save and resume

    def save(self, name: str = "checkpoint.pt") -> None:
        stage = self.stage
        training = {
            "step": self.step,
            "images": self.images,
            "processes": self.world,
            "settings": to_dict(self.config),
            "data": {"count": len(self.data)},
            "models": {name: checkpoint.state_of(model) for name, model in stage.models.items()},
            "optimizers": {name: optimizer.state_dict() for name, optimizer in stage.optimizers.items()},
            "scalers": {name: scaler.state_dict() for name, scaler in self.scalers.items()},
            "stage": stage.state(),
            "patience": self.patience.state(),
        }
        weights = {name: checkpoint.state_of(model) for name, model in self.inference_models().items()}
        # The best are the run's result, the last are what it goes on from.
        if self.patience.weights and name == "checkpoint.pt":
            training["averages"] = {name: weights[name] for name in self.averages.models}
            weights |= self.patience.weights
        checkpoint.save(self.run / name, stage.name, stage.model_config, weights, training)

    def resume(self) -> None:
        """Take over the state of RUN/checkpoint.pt. UserError names a setting that differs."""
        path, stage = self.run / "checkpoint.pt", self.stage
        content = checkpoint.read(path)
        if content["stage"] != stage.name:
            raise UserError(
                f"--out {self.run}: holds a run of stage '{content['stage']}', not '{stage.name}'; "
                "name another folder", 2,
            )  # fmt: skip
        training = content["training"]
        # A setting that the run did not know yet had its default's effect.
        known = {**to_dict(ModelConfig()), **to_dict(type(self.config)())}
        stored = {**known, **content["config"]["model"], **training["settings"]}
        given = {**to_dict(stage.model_config), **to_dict(self.config)}
        changed = {name: value for name, value in given.items() if stored[name] != value}
        for name, value in changed.items():
            if name not in FREE_ON_RESUME | SAID_ON_RESUME:
                raise UserError(
                    f"{name}={value}: the run in {self.run} was started with {name}={stored[name]}; "
                    "use the same value, or name another --out folder", 2,
                )  # fmt: skip
        self._note_changes(training, {name: stored[name] for name in SAID_ON_RESUME & changed.keys()})
        for name, model in stage.frozen.items():
            before, now = content["weights"][name], checkpoint.state_of(model)
            if checkpoint.differences(before, now) or not all(torch.equal(before[k], now[k]) for k in now):
                raise UserError(
                    f"--{name}: the run in {self.run} was started with another {name}; give that checkpoint, "
                    "or name another --out folder", 2,
                )  # fmt: skip
        for name, model in stage.models.items():
            checkpoint.load_state(model, training["models"][name], f"{path} ({name})")
        best = {name: content["weights"][name] for name in self.averages.models}
        for name, state in training.get("averages", best).items():
            checkpoint.load_state(self.averages.models[name], state, f"{path} ({name})")
        if "patience" in training:
            self.patience.load_state(training["patience"], best)
        for name, optimizer in stage.optimizers.items():
            rates = [group["initial_lr"] for group in optimizer.param_groups]
            optimizer.load_state_dict(training["optimizers"][name])
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["initial_lr"] = rate
        for name, scaler in self.scalers.items():
            if training["scalers"][name]:  # empty: of a run without fp16
                scaler.load_state_dict(training["scalers"][name])
        stage.load_state(training["stage"])
        self.step, self.images = training["step"], training["images"]
        if "batch" in changed:
            left = self.config.kimg * 1000 - self.images
            self.total = self.step + max(0, round(left / self.config.batch))

    def _note_changes(self, training: dict, before: dict) -> None:
        """Say what is no longer as it was when the run was saved."""
        now = {name: getattr(self.config, name) for name in sorted(before)}
        before = {**before, "images": training["data"]["count"]}
        now["images"] = len(self.data)
        if "processes" in training:
            before["processes"], now["processes"] = training["processes"], self.world
        for name, value in now.items():
            if before[name] != value:
                order = ": another data order" if name in ("images", "batch") else ""
                self._say(f"note: {name} {value}, {before[name]} until step {training['step']}{order}")

    # -------------------------------------------------------------------------------------- the user

    def _say(self, text: str) -> None:
        if self.rank == 0:
            print(text, file=sys.stderr, flush=True)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """The first Ctrl-C or SIGTERM ends the run after this step; the second one ends it at once."""

        def ask(number: int, frame: object) -> None:
            self.interrupted = number
            signal.signal(number, signal.SIG_DFL)
            self._say("stopping after this step ...")

        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
