"""The whole paper: every table and figure, one after the other, and a page of its statements beside ours.

python -m wagi.evaluate paper --out OUT
python -m wagi.evaluate paper --out OUT --preset portraits-128 --set residual_resolution=64 --data DATA \\
    --test portraits:9001:128 --seeds 3 --kimg 1.2 --generator-kimg 8 --steps 500

OUT/paper.md has for each the command, the paper's statement, our numbers and whether it held. The defaults
are tiny: they show in minutes that everything runs, and their numbers say nothing. A stopped command goes on.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from wagi import config
from wagi.experiments.claims import (
    MARGINAL,
    Claim,
    bands,
    best,
    biased,
    fitted,
    higher,
    less,
    levels,
    octaves,
    spectral,
    thirty,
)
from wagi.experiments.generators import KINDS, generators_parser, require_positive
from wagi.experiments.networks import add_networks, files_of, words_of
from wagi.experiments.runs import digest, kept_json
from wagi.files import write_text

PORTRAITS = 48  # rendered for training, beside those that are held out, where --data is not given
BOUNDS = ("naive inversion (E0)", "latent optimisation", "PTI", "IntereStyle's loss")
HFGI = ("HFGI (lf=7)", "HFGI (lf=7,9,11)")
MAIN = "(g) lf=7,9, lw=11"  # of table 3
VERDICTS = {True: "yes", False: "no", None: "-"}
PAPERS, NAIVE = "WaGI, nothing faded (the paper)", "naive edit"


def parser() -> argparse.ArgumentParser:
    p = generators_parser("paper", "", trains=False)
    p.description, p.formatter_class = __doc__, argparse.RawDescriptionHelpFormatter
    p.set_defaults(preset="smoke-128", test="portraits:9001:4", generator_kimg=0.032)
    add = p.add_argument
    add("--seeds", type=int, default=1, metavar="N", help="runs per row, seeds 0 to N-1 (default 1)")
    add("--kimg", type=float, default=0.016, help="budget of each run of a row (default 0.016)")
    add("--steps", type=int, default=20, metavar="N", help="of each optimisation of latents (default 20)")
    add("--pictures", default="portraits:9001:2", metavar="DATA", help="drawn (default portraits:9001:2)")
    add("--edits", type=int, default=4, metavar="N", help="true edits that are compared (default 4)")
    add("--set", action="append", default=[], metavar="NAME=VALUE", help="any setting of the inversion stage")
    add_networks(p, "tables 2 to 4 and the bands also by the stand-ins for LPIPS and ID (see table2 --help)")
    return p


@dataclass(frozen=True)
class Paper:
    """One run through the paper: its options, its folder, and what an earlier step left for a later one."""

    args: argparse.Namespace

    @property
    def out(self) -> Path:
        return self.args.out

    def data(self) -> Path:
        """The training data, rendered once where none are given."""
        if self.args.data:
            return Path(self.args.data)
        from wagi.portraits.dataset import Settings, generate

        folder = self.out / "data"
        model, train = config.settings(self.args.preset, "generator")
        generate(folder, Settings(PORTRAITS + train.holdout, model.size, 1, True), workers=1, progress=False)
        return folder

    def parts(self) -> list[str]:
        """The options of whatever has pretrained parts."""
        args = self.args
        words = ["--preset", args.preset, "--data", str(self.data()), "--runs", str(self.runs)]
        words += ["--generator-kimg", repr(args.generator_kimg), "--jobs", str(args.jobs)]
        words += ["--threads", str(args.threads)] + (["--device", args.device] if args.device else [])
        given = {kind: getattr(args, kind) for kind in KINDS}
        return words + [w for kind, path in given.items() if path for w in (f"--{kind}", str(path))]

    @property
    def runs(self) -> Path:
        return self.args.runs or self.out / "runs"

    def rows(self) -> list[str]:
        """The options of whatever trains rows."""
        words = ["--kimg", repr(self.args.kimg), *self.judges()]
        return self.parts() + words + [w for text in self.args.set for w in ("--set", text)]

    def judges(self) -> list[str]:
        """The networks, for rows that are trained with them and for their numbers."""
        return [*words_of(files_of(self.args)), *(["--standins"] if self.args.standins else [])]

    def systems(self) -> list[str]:
        """Table 1's options: by the weight files where there are some, else by the stand-ins."""
        words = [word for word in self.measured() if word != "--standins"]
        steps = str(self.args.steps)
        words += ["--protocol", "wagi"] if words_of(files_of(self.args)) else []
        return [*words, "--latent-steps", steps, "--tuning-steps", steps]

    def measured(self) -> list[str]:
        """Those of whatever measures them over seeds."""
        return [*self.rows(), "--seeds", str(self.args.seeds), "--test", self.args.test]

    def drawn(self) -> list[str]:
        """Those of whatever draws them."""
        return [*self.rows(), "--test", self.args.pictures]

    def models(self) -> list[str]:
        """The options of whatever shows table 1's systems."""
        return ["--table1", str(self.out / "table1.json"), "--runs", str(self.runs)]

    def edits(self, name: str) -> list[str]:
        """Those of figures of edits, which are of rendered portraits: the truth is known of no other."""
        kind, _, rest = self.args.pictures.partition(":")
        seed = ["--seed", rest.partition(":")[0]] if kind == "portraits" else []
        return [*self.models(), *seed, "--out", str(self.out / f"{name}.png")]

    def trained(self) -> dict[str, list[str]]:
        """Row of table 1 -> its runs."""
        lines = json.loads((self.out / "table1.json").read_text())["rows"]
        return {line["row"]: line["runs"] for line in lines}

    def wagi(self) -> str:
        """The checkpoint of table 1's WaGI, seed 0."""
        return str(self.runs / self.trained()["WaGI"][0] / "checkpoint.pt")

    def key(self, words: list[str]) -> str:
        """A name for what these words make: other runs of table 1's systems make another figure."""
        return digest([words, self.trained()] if "--table1" in words else words)


Words = Callable[[Paper], list[str]]


@dataclass(frozen=True)
class Step:
    """One experiment: the words of its command after its name, and what the paper says of its result."""

    title: str
    name: str
    words: Words
    claims: tuple[Claim, ...]
    picture: str = ""  # where it is not NAME.png


LOWER = ("L2", "L_wave", "LPIPS", "portraits-features")
HIGHER = ("SSIM", "ID", "portraits-ID")
STEPS = (
    Step("Table 1: systems", "table1", Paper.systems,
         (Claim("WaGI outperforms all baselines in all columns", best("WaGI", LOWER, HIGHER, BOUNDS)),
          Claim("HFGI has less distortion than PTI (A.3.3)", less("L2", "HFGI", "PTI")),
          Claim("HyperStyle has less than ReStyle", less("L2", "HyperStyle", "ReStyle (pSp)")),
          Claim("pSp has less than e4e", less("L2", "pSp", "e4e")),
          Claim("of whole pictures ReStyle (pSp) has less than IntereStyle",
                less("L2", "ReStyle (pSp)", "IntereStyle's loss")))),
    Step("Table 2: configurations", "table2", Paper.measured,
         (Claim("B gains marginally over A (less than 10 % here)", less("L2", "B", "A", at_most=MARGINAL)),
          Claim("C's wavelet loss lowers ADA's L1 by about 19 %", less("L1(ADA)", "C", "B", 0.15)),
          Claim("D's wavelet fusion lowers ADA's L1 again", less("L1(ADA)", "D", "C")),
          Claim("D is the best in L2 and SSIM", best("D", ("L2",), ("SSIM",), ("naive inversion",))))),
    Step("Table 3: fusion layers", "table3", Paper.measured,
         (Claim("(g), features at l_f = 7 and 9 with wavelets at l_w = 11, is the best in all columns",
                best(MAIN, LOWER, HIGHER, ("naive inversion",))),
          Claim("two feature levels beat one, at each l_w", levels),
          Claim("wavelets below l_w = 11 keep too little of L_wave", higher),
          Claim("l_w = 13 is worse than 11", less("L2", MAIN, "(h) lf=7,9, lw=13")))),
    Step("Table 4: fusion methods", "table4", Paper.measured,
         (Claim("HFGI gets worse in L2 with more feature levels", less("L2", *HFGI)),
          Claim("with the same levels WaGI's generator and wavelet loss improve on it",
                less("L2", "WaGI (lf=7,9,11)", HFGI[1])),
          Claim("wavelets at l_w = 11 beat features there",
                less("L2", "WaGI (lf=7,9 and lw=11)", "WaGI (lf=7,9,11)")))),
    Step("Figure 1: a noisy picture", "figure1",
         lambda p: [*p.models(), "--data", p.args.pictures],
         (Claim("WaGI restores high-frequency details of a noisy picture best (L_wave here)",
                best("WaGI", ("l_wave",), key="model")),)),
    Step("Figure 2a: bands of a picture", "figure2a", lambda p: ["--data", p.args.pictures],
         (Claim("for the eye: LL has the coarse picture, LH, HL and HH edges"),)),
    Step("Figures 2b and 7: errors by band", "bands",
         lambda p: [*p.models(), "--test", p.args.test, *p.judges()],
         (Claim("WaGI has the least L2 in each high band (2b)", bands("L2")),
          Claim("and the least L1 (7)", bands("L1")),
          Claim("HyperStyle and HFGI lower LL's L2 below ReStyle's, that of the high bands marginally or not",
                biased),
          Claim("L2 of LL is around 30 times that of the high bands (3.2)",
                thirty("L2", ("ReStyle (e4e)", "HyperStyle", "HFGI"))),
          Claim("L1 of LL too (A.1)", thirty("L1", ("HyperStyle", "HFGI"))))),
    Step("Figure 4: inversions", "sheet",
         lambda p: [*p.models(), "--data", p.args.pictures, "--blocks", "1"]
         + ["--out", str(p.out / "figure4.png")],
         (Claim("for the eye: WaGI keeps letters, accessories and backgrounds, the others do not"),),
         "figure4.png"),
    Step("Figure 5: edits", "figure5", lambda p: p.edits("figure5"),
         (Claim("for the eye: WaGI edits and keeps details, HFGI and the others do not do both"),)),
    Step("Figures 5 and 12: WaGI's edits against the truth", "edit",
         lambda p: ["--model", p.wagi(), "--count", str(p.args.edits), "--edits", "yaw+0.3"]
         + ["--pairs", str(p.out / "pairs")],
         (Claim("the paper's edit keeps details that the naive edit loses", less("l2", PAPERS, NAIVE)),),
         "edit-yaw+0.3-oracle.png"),
    Step("Figure 6: the ablation on pictures", "figure6", Paper.drawn,
         (Claim("for the eye: C keeps details that B loses, D brings the residual into the result"),)),
    Step("Figure 8: the spectral loss", "figure8",
         lambda p: [*p.parts(), "--steps", str(p.args.steps), "--test", p.args.pictures],
         (Claim("the spectral term matches spectra and makes pictures worse", spectral),
          Claim("without it SWAGAN fits most of the high frequencies, StyleGAN2 does not", fitted))),
    Step("Figure 9: octaves left out", "figure9", lambda p: ["--data", p.args.pictures],
         (Claim("little is lost from A to B, much from B to C", octaves),)),
    Step("Figure 10: fusion layers on pictures", "figure10", Paper.drawn,
         (Claim("for the eye: (a) to (d) lose texture, (e), (f) and (h) are distorted, (g) is the best"),)),
    Step("Figure 11: intermediate maps", "figure11",
         lambda p: ["--model", p.wagi(), "--data", p.args.pictures],
         (Claim("for the eye: the residual reflects image-wise details precisely"),)),
    Step("Figure 12: inversions and edits", "figure12", lambda p: p.edits("figure12"),
         (Claim("for the eye: WaGI keeps the texture of clothes and skin, in edits it alone"),)),
)  # fmt: skip


def run(args: argparse.Namespace) -> None:
    for name in ("seeds", "kimg", "steps", "edits"):
        require_positive(args, name)
    paper, parts = Paper(args), []
    for number, step in enumerate(STEPS, 1):
        print(f"{step.title} ({number} of {len(STEPS)})", file=sys.stderr, flush=True)
        words = step.words(paper)
        words = words if "--out" in words else [*words, "--out", str(args.out)]
        place = args.out / "steps" / f"{step.name}-{paper.key(words)}.json"
        kept_json(place, lambda step=step, words=words: _experiment(step.name, words))  # type: ignore[misc]
        parts.append("\n".join(section(step, words, args.out)))
        write_text(args.out / "paper.md", page(args, parts))
    print(f"{args.out / 'paper.md'}: {len(STEPS)} tables and figures")


def _experiment(name: str, words: list[str]) -> dict:
    experiment = import_module(f"wagi.experiments.{name}")
    experiment.run(experiment.parser().parse_args(words))
    return {"experiment": name, "words": words}


def page(args: argparse.Namespace, parts: list[str]) -> str:
    """The page of the steps that are done."""
    budget = (
        f"Preset {args.preset}, {args.generator_kimg:g} kimg for each generator, {args.kimg:g} for each row, "
        f"{args.seeds} seeds. A small budget shows that everything runs; what held at one says nothing."
    )
    return "\n\n".join(["# The paper's statements, and ours", budget, *parts]) + "\n"


def section(step: Step, words: list[str], out: Path) -> Iterator[str]:
    """Lines of the page: title, command, statements, and where table and picture are."""
    yield f"## {step.title}\n"
    yield f"`python -m wagi.evaluate {shlex.join([step.name, *words])}`\n"
    yield "| the paper | here | held |"
    yield "|---|---|---|"
    report = out / f"{step.name}.json"
    for claim in step.claims:
        if claim.judge is None:
            yield f"| {claim.statement} | see the picture | - |"
        else:
            said, held = claim.judge(json.loads(report.read_text()))
            yield f"| {claim.statement} | {said} | {VERDICTS[held]} |"
    picture = step.picture or f"{step.name}.png"
    if report.is_file():
        yield f"\n[{step.name}.md]({step.name}.md)"
    if (out / picture).is_file():
        yield f"\n![{step.title}]({picture})"
