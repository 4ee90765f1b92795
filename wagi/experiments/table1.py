"""Table 1: every system that the paper compares, and more, trained alike or given as checkpoints."""

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from wagi import checkpoint, config
from wagi.config import InversionConfig, ModelConfig
from wagi.errors import UserError
from wagi.evaluation import protocols
from wagi.evaluation.extractors import Extractors
from wagi.evaluation.inputs import Inputs
from wagi.evaluation.inverters import BundleInverter, CheckpointInverter, Inverter, open_inverter
from wagi.evaluation.measure import evaluate
from wagi.evaluation.optimisers import Optimiser, PictureLoss
from wagi.experiments import ablation, published, tables
from wagi.experiments.generators import Generators, generators_parser, require_positive
from wagi.experiments.networks import add_networks, files_of, words_of
from wagi.experiments.runs import Task, data_identity, digest, kept_json
from wagi.experiments.systems import LATENTS, PTI, System, asked, budgeted, systems
from wagi.features import FeatureFiles
from wagi_rt.files import file_sha256

VERSION = 1  # of the numbers
# Protocol -> its metric in each column.
COLUMNS = {
    "wagi": {"L2": "l2", "L_wave": "l_wave", "LPIPS": "lpips", "SSIM": "ssim", "ID": "identity"},
    "portraits": {
        "L2": "l2", "L_wave": "l_wave", "portraits-features": "portraits-features", "SSIM": "ssim",
        "portraits-ID": "portraits-ID",
    },
}  # fmt: skip
MS = "ms per image"
NAIVE = "naive inversion (E0)"
_NUMBERS = (
    "Numbers are means over pictures of the final inversion, 8 bit in [-1, 1]; over seeds mean ± standard "
    "deviation (min..max). Lower is better, but for SSIM and ID."
)
_BUDGET = (
    "Every run begins with the same G0 and E0 and sees the same number of images: encoders go on from what "
    "fits of E0 (ReStyle's heads and pSp's, but for the first, begin anew), HyperStyle, HFGI and WaGI keep "
    "E0 as it is. ReStyle and HyperStyle take five steps for each image, and so several times as long. The "
    "presets for portraits have small forms of the systems, without LPIPS and ID in their losses."
)
_BOUNDS = (
    "Latent optimisation ({latent} steps in W) and PTI ({tuning} more, of the generator) minimise L2 and the "
    "perceptual distance of this table: bounds, not rivals, and favoured in that column."
)


def parser() -> argparse.ArgumentParser:
    p = generators_parser(
        "table1",
        "Table 1: pSp, e4e, ReStyle, HyperStyle, HFGI and WaGI, and beyond it IntereStyle's loss, latent "
        "optimisation and PTI: trained from the same G0 and E0 with the same number of images, or given.",
        trains=False,
    )
    add = p.add_argument
    add("--model", action="append", default=[], metavar="NAME=MODEL",
        help="a row: a checkpoint, of an encoder alone too, or a bundle; repeatable")  # fmt: skip
    add(
        "--systems", default="", metavar="NAMES", help="only these rows, by commas (default with --data: all)"
    )
    add("--seeds", type=int, default=3, metavar="N", help="runs per row, seeds 0 to N-1 (default 3)")
    add("--kimg", type=float, default=1.6, help="budget of each run in thousands of images (default 1.6)")
    add("--set", action="append", default=[], metavar="NAME=VALUE", help="any setting, where a stage has it")
    add("--latent-steps", type=int, default=450, metavar="N", help="of latent optimisation (default 450)")
    add("--tuning-steps", type=int, default=350, metavar="N", help="of PTI (default 350)")
    add("--protocol", choices=tuple(COLUMNS), default="portraits", help="which metrics (default portraits)")
    add("--at", type=int, default=0, metavar="PX",
        help="size that pictures are compared at; tables 2 to 4: R (default: the protocol's)")  # fmt: skip
    add("--limit", type=int, default=0, metavar="N", help="the first N test pictures only (default 0: all)")
    add("--batch", type=int, default=8, metavar="N", help="pictures inverted together (default 8)")
    add_networks(p)
    return p


@dataclass(frozen=True)
class Bench:
    """Pictures, metrics and device, the same for every row."""

    test: str
    protocol: protocols.Protocol
    files: FeatureFiles
    batch: int
    limit: int
    device: str
    at: int = 0  # pixels, where they are not the protocol's

    @classmethod
    def of(cls, args: argparse.Namespace) -> "Bench":
        protocol = protocols.find(args.protocol)
        protocol = replace(protocol, metrics=tuple(COLUMNS[args.protocol].values()))
        device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
        protocol = replace(protocol, size=args.at) if args.at else protocol
        return cls(args.test, protocol, files_of(args), args.batch, args.limit, device, args.at)

    @property
    def key(self) -> list:
        where = [self.device, torch.get_num_threads()]  # of the time
        what = [VERSION, data_identity(self.test), self.protocol.name, self.limit, self.words, where]
        return what + ([self.at] if self.at else [])

    @property
    def words(self) -> tuple[str, ...]:
        """The weight files as options of wagi.train, whose losses may need them too."""
        return words_of(self.files)

    def scores(self, inverter: Inverter) -> dict[str, Any]:
        """naive, final: metric -> mean over pictures; ms per picture."""
        if self.at and inverter.size % self.at:
            raise UserError(f"--at {self.at}: must divide the models' {inverter.size} px", 2)
        report, _ = evaluate(
            inverter, self.test, self.protocol, self.files, self.batch, self.limit, self.device
        )
        sides = {
            side: {name: found[side]["mean"] for name, found in report["results"].items()}
            for side in ("naive", "final")
        }
        return {**sides, "ms": milliseconds(inverter, self.test), "count": report["data"]["count"]}

    def perceptual(self, size: int) -> Any:
        """LPIPS or its stand-in, which the optimisers minimise as well."""
        found = Extractors(self.protocol, size, self.files, self.device).pairwise
        name = next((n for n in ("lpips", "portraits-features") if n in found), None)
        if name is None:
            raise UserError("--lpips-trunk, --lpips-linear: are needed by latent optimisation and PTI", 2)
        return found[name]


def milliseconds(inverter: Inverter, test: str, repeats: int = 5) -> float | None:
    """The time of one picture alone: the median, after one that warms up; None for a bundle's process."""
    if isinstance(inverter, BundleInverter):
        return None
    pixels = [pixels for _, pixels in Inputs(test, inverter.size, 1)]
    times: list[float] = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        list(inverter.invert(pixels))
        times.append(1000 * (time.perf_counter() - start))
        if times[0] > 5000:
            return times[0]
    return statistics.median(times[1:])


@dataclass(frozen=True)
class Comparison:
    """Systems trained on the same data from the same pretrained parts, and their numbers."""

    parts: Generators
    bench: Bench
    args: argparse.Namespace

    def settings(self) -> tuple[ModelConfig, InversionConfig]:
        more = config.named(self.args.set)
        return config.settings(self.parts.preset, "inversion", more)  # type: ignore[return-value]

    def chosen(self) -> list[System]:
        """The systems of --systems; with neither that nor --data none."""
        every = {system.label: system for system in systems(*self.settings())}
        names = asked(self.args.systems)
        if unknown := [name for name in names if name not in every]:
            raise UserError(f"--systems {unknown[0]}: no such system; choose from {', '.join(every)}", 2)
        found = [every[name] for name in names] if names else list(every.values())
        found = found if names or self.parts.data else []
        if any(system.stage for system in found) and not (self.parts.data and self.args.runs):
            raise UserError("--data, --runs: are needed to train systems; or name checkpoints by --model", 2)
        return found

    def lines(self) -> list[dict[str, Any]]:
        """A line per system; before them one per pretrained E0."""
        chosen = self.chosen()
        frozen = self.parts.pretrained(sorted({system.generator for system in chosen}))
        trained = [system for system in chosen if system.stage]
        tasks = [
            (system, self._task(system, seed, frozen))
            for seed in range(self.args.seeds)
            for system in trained
        ]
        runs = replace(self.parts.runs, words=self.bench.words)
        paths = runs.train([task for _, task in tasks])
        found: dict[str, list[dict]] = {system.label: [] for system in chosen}
        for (system, _), path in zip(tasks, paths, strict=True):
            place = path.parent / f"table1-{digest(self.bench.key)}.json"
            scores = kept_json(place, partial(self._of_checkpoint, path))
            found[system.label].append({"run": path.parent.name, **scores})
            _say(f"measured {system.label}, {path.parent.name}")
        for system in chosen:
            if not system.stage:
                found[system.label].append(self._optimised(system, frozen[system.generator]))
        lines = [self._naive(kind, path) for kind, path in frozen.items()]
        for system in chosen:
            steps = {} if system.stage else {"steps": self._steps(system)}
            lines.append(line(system.label, system.generator, found[system.label], self.bench) | steps)
        return lines

    def _steps(self, system: System) -> list[int]:
        """Of an optimisation: in the latents, and of the generator."""
        return [self.args.latent_steps, self.args.tuning_steps if system.label == PTI else 0]

    def _task(self, system: System, seed: int, frozen: dict[str, Path]) -> Task:
        system = budgeted(system, self.args.kimg, seed, config.named(self.args.set))
        label = f"{system.label}, seed {seed}"
        return Task(system.stage, label, system.overrides, frozen[system.generator])

    def _of_checkpoint(self, path: Path) -> dict[str, Any]:
        return self.bench.scores(CheckpointInverter(path, self.bench.batch, self.bench.device))

    def _naive(self, kind: str, path: Path) -> dict[str, Any]:
        scores = self._of_checkpoint(path)
        return line(NAIVE, kind, [{**scores, "run": path.parent.name}], self.bench)

    def _optimised(self, system: System, path: Path) -> dict[str, Any]:
        """Scores of latent optimisation or PTI; kept in --runs like those of a run."""
        steps = self._steps(system)

        def build(content: dict, path: Path) -> Optimiser:
            generator: Any = checkpoint.build_loaded(content, "generator", path)
            loss = PictureLoss(self.bench.perceptual(generator.size))
            return Optimiser(generator, loss, *steps)

        def make() -> dict[str, Any]:
            _say(f"optimising: {system.label}")
            return self.bench.scores(CheckpointInverter(path, self.bench.batch, self.bench.device, build))

        if not self.args.runs:
            return make()
        key = digest([self.bench.key, file_sha256(path), *steps])
        return kept_json(self.args.runs / f"optimised-{key}.json", make)


def line(label: str, generator: str, found: Sequence[dict], bench: Bench) -> dict[str, Any]:
    """One row of the table: the final inversion's numbers over seeds."""
    columns = COLUMNS[bench.protocol.name]
    numbers: dict[str, Any] = {
        name: tables.spread([scores["final"][metric] for scores in found])
        for name, metric in columns.items()
        if all(scores["final"].get(metric) is not None for scores in found)
    }
    times = [scores["ms"] for scores in found if scores["ms"] is not None]
    numbers |= {MS: float(statistics.median(times))} if times else {}
    runs = [scores["run"] for scores in found if "run" in scores]
    return {"row": label, "generator": generator, **numbers, "runs": runs, "count": found[0]["count"]}


def opened(texts: Sequence[str], bench: Bench) -> dict[str, Inverter]:
    """The models of every `--model NAME=MODEL`."""
    found = {}
    for text in texts:
        name, equals, path = text.partition("=")
        if not (name and equals and path):
            raise UserError(f"--model {text}: write NAME=CHECKPOINT or NAME=BUNDLE", 2)
        found[name] = open_inverter(Path(path), bench.batch, bench.device)
    return found


def given_line(name: str, inverter: Inverter, bench: Bench) -> dict[str, Any]:
    kind = inverter.facts.get("config", {}).get("generator", "bundle")
    return {**line(name, kind, [bench.scores(inverter)], bench), "model": inverter.facts}


def run(args: argparse.Namespace) -> None:
    for name in ("seeds", "kimg", "batch", "latent_steps", "tuning_steps", *(["at"] if args.at else [])):
        require_positive(args, name)
    if args.threads:
        torch.set_num_threads(args.threads)
    bench = Bench.of(args)
    study = Comparison(Generators.of(args), bench, args)
    if not (study.chosen() or args.model):
        raise UserError("--model or --data: is needed; there is nothing to compare", 2)
    given = opened(args.model, bench)
    lines = study.lines() + [given_line(name, inverter, bench) for name, inverter in given.items()]
    columns = ["row", "generator", *COLUMNS[args.protocol], MS]
    text = tables.write_report(args.out, "table1", lines, columns, facts(study))
    labels = [f"{found['row']} ({found['generator']})" for found in lines]
    tables.write_figure(args.out, "table1", ablation.bars(lines, list(COLUMNS[args.protocol]), labels))
    print(text)


def facts(study: Comparison) -> dict[str, Any]:
    """Settings and data behind the numbers, and what they do not say."""
    args, parts = study.args, study.parts
    found: dict[str, Any] = {"title": "Table 1: inversion by system"}
    labels = [system.label for system in study.chosen()]
    if labels:
        more = "".join(f", {name}={text}" for name, text in config.named(args.set).items())
        found |= {
            "size": f"{study.settings()[0].size} px, preset {parts.preset}",
            "training data": Path(parts.data).name,
            "generators and encoders": parts.sources(),
            "budget": f"{args.kimg:g} thousand images in each run of every system, {args.seeds} seeds{more}",
        }
    where = f"{torch.get_num_threads()} threads, {study.bench.device}"
    found |= {
        "held-out data": args.test + (f", the first {args.limit}" if args.limit else ""),
        "protocol": args.protocol + (f", measured at {args.at} px" if args.at else ""),
        "time": f"one picture alone, {where}",
    }
    notes = [_NUMBERS, *([_BUDGET] if labels else []), *([_BOUNDS] if {LATENTS, PTI} & set(labels) else [])]
    notes = [note.format(latent=args.latent_steps, tuning=args.tuning_steps) for note in notes]
    return {**found, "notes": [*notes, published.table("table1")]}


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
