"""The pretrained parts of an experiment: G0 with its E0 of each kind, given as checkpoints or distilled."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wagi import checkpoint
from wagi.errors import UserError
from wagi.experiments.runs import Runs, Task

KINDS = ("swagan", "stylegan2")


@dataclass(frozen=True)
class Generators:
    """Pretrained generators with their encoders, and where those that are not given are trained."""

    preset: str
    data: str
    test: str
    out: Path
    runs: Runs
    given: dict[str, Path]  # kind of generator -> checkpoint with G0 and E0
    generator_kimg: float

    @staticmethod
    def fields_of(args: argparse.Namespace) -> dict[str, Any]:
        """The fields above, from the options of `generators_parser`. UserError, status 2."""
        for name in ("jobs", "threads", "generator_kimg"):
            require_positive(args, name)
        given = {name: path for name in KINDS if (path := getattr(args, name))}
        for name, path in given.items():
            if not path.is_file():
                raise UserError(f"--{name} {path}: no such checkpoint file", 2)
        data, folder = args.data or "", args.runs or Path()
        _keep_apart(data, args.test)
        runs = Runs(folder, args.preset, data, args.jobs, args.threads, args.device)
        return dict(
            preset=args.preset, data=data, test=args.test, out=args.out, runs=runs, given=given,
            generator_kimg=args.generator_kimg,
        )  # fmt: skip

    @classmethod
    def of(cls, args: argparse.Namespace) -> "Generators":
        """From the options of `generators_parser`. UserError, status 2, for those that cannot work."""
        return cls(**cls.fields_of(args))

    def generator_task(self, kind: str) -> Task:
        """G0 and E0 of one kind, distilled together; the same seed, data and budget for both kinds."""
        overrides = {"generator": kind, "kimg": repr(self.generator_kimg), "seed": "0", "mode": "distill"}
        if kind == "stylegan2":
            overrides["wavelet_levels"] = ""
        return Task("generator", f"{kind} generator and encoder", tuple(overrides.items()))

    def pretrained(self, kinds: Sequence[str]) -> dict[str, Path]:
        """Kind of generator -> the checkpoint with G0 and E0, given or trained."""
        given = {kind: path for kind, path in self.given.items() if kind in kinds}
        for kind, path in given.items():
            found = checkpoint.model_config(checkpoint.read(path), path).generator
            if found != kind:
                raise UserError(f"--{kind} {path}: holds a {found} generator; give it as --{found}", 2)
        missing = [kind for kind in kinds if kind not in given]
        if missing and not self.data:
            raise UserError(f"--{missing[0]}: give a checkpoint, or --data and --runs to train one", 2)
        trained = self.runs.train([self.generator_task(kind) for kind in missing])
        return given | dict(zip(missing, trained, strict=True))

    def sources(self) -> str:
        """The pretrained parts in words, for a report."""
        made = f"distilled, {self.generator_kimg:g} kimg each, seed 0"
        return "; ".join(dict.fromkeys(str(self.given.get(kind, made)) for kind in KINDS))


def generators_parser(name: str, description: str, trains: bool = True) -> argparse.ArgumentParser:
    """The options of every experiment with pretrained parts; `trains`: it always trains, on --data."""
    p = argparse.ArgumentParser(
        prog=f"python -m wagi.evaluate {name}",
        description=f"{description} The same command again goes on; rows that other tables share are not "
        "trained again.",
    )
    add = p.add_argument
    add("--preset", default="portraits-64", help="of wagi.train; sets size and levels (portraits-64)")
    add("--data", required=trains, help="training data: of python -m wagi.portraits --memmap, or any images "
        "where --swagan and --stylegan2 give the generators")  # fmt: skip
    add("--test", default="portraits:9001:128", metavar="DATA",
        help="held-out pictures: a folder, celeba-hq:FOLDER or portraits:SEED:COUNT (default "
        "portraits:9001:128)")  # fmt: skip
    add("--runs", required=trains, type=Path, metavar="DIR", help="where runs and their scores are kept")
    add("--out", required=True, type=Path, metavar="DIR", help=f"writes {name}.md, {name}.json, {name}.png")
    add("--generator-kimg", type=float, default=8.0, help="budget of each G0 with its E0 (default 8)")
    add("--swagan", type=Path, metavar="CKPT", help="SWAGAN G0 and its E0, instead of training them")
    add("--stylegan2", type=Path, metavar="CKPT", help="StyleGAN2 G0 and its E0, instead of training them")
    add("--jobs", type=int, default=1, help="runs trained side by side (default 1)")
    add("--threads", type=int, default=1, help="CPU threads of each run (default 1)")
    add("--device", default="", help="of training: cpu or cuda (default: cuda where there is one)")
    return p


def require_positive(args: argparse.Namespace, name: str) -> None:
    """UserError, status 2, for a number that is not greater than 0."""
    if getattr(args, name) <= 0:
        raise UserError(f"--{name.replace('_', '-')} {getattr(args, name)}: must be greater than 0", 2)


def _keep_apart(data: str, test: str) -> None:
    """Held-out portraits have another seed than those of the training."""
    meta = Path(data) / "meta.json"
    trained = str(json.loads(meta.read_text())["seed"]) if meta.is_file() else data.partition(":")[2]
    if test.startswith("portraits:") and test.split(":")[1] == trained.split(":")[0]:
        raise UserError(f"--test {test}: the training data have this seed too; choose another", 2)
