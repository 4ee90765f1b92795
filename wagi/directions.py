"""Find editing directions in a model's latents, measure each on held-out pictures, keep those that hold.

python -m wagi.directions pairs --model CKPT --data SCENES --heldout PORTRAITS --out DIR
python -m wagi.directions interfacegan --model CKPT --data FOLDER --labels list_attr_celeba.txt --out DIR
python -m wagi.directions ganspace --model CKPT --out DIR
python -m wagi.directions sefa --model CKPT --out DIR --layers 0-3
python -m wagi.directions styleclip --model CKPT --out DIR
python -m wagi.directions latent --model CKPT --image face.png --text "a smiling face" --out DIR
python -m wagi.directions mapper --model CKPT --data FOLDER --text "a smiling face" --out DIR
python -m wagi.directions mapper --model CKPT --mapper DIR/mappers/NAME.safetensors --image face.png --out DIR

DIR/NAME.safetensors is what `export/to_onnx.py --directions DIR` packs into a bundle, and what
`wagi-rt edit --direction FILE=1` takes; styleclip's DIR is for `export/to_onnx.py --text DIR`.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from wagi.editing.settings import DEFAULTS, Settings
from wagi.errors import UserError, run_command

if TYPE_CHECKING:
    from wagi.editing.towers import Towers
    from wagi.model import NaiveInverter
    from wagi.networks.swagan import Generator

METHODS = {
    "pairs": "least squares over pictures of the same scene (rendered: wagi.portraits --scenes)",
    "interfacegan": "boundary of a linear SVM on E0's codes of labelled pictures, the others projected out",
    "ganspace": "principal components of W",
    "sefa": "eigenvectors of the style layers' weights; needs no pictures",
    "styleclip": "what every style does to a text-image model's features, for edits by any text",
    "latent": "StyleCLIP's latent optimisation: the step of one picture towards one text",
    "mapper": "StyleCLIP's mapper, trained for one text: its mean step, and the steps of pictures",
}
BY_TEXT = ("styleclip", "latent", "mapper")


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m wagi.directions",
        description=__doc__,
        epilog="methods:\n" + "\n".join(f"  {name:<14}{text}" for name, text in METHODS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = p.add_argument
    add("method", choices=METHODS, metavar="METHOD", help=", ".join(METHODS))
    add("--model", required=True, type=Path, metavar="CKPT",
        help="checkpoint with the generator and, for methods that read pictures, the encoder")  # fmt: skip
    add("--out", required=True, type=Path, metavar="DIR", help="folder of the directions and directions.json")
    labelled = p.add_argument_group("pairs, interfacegan and mapper")
    add = labelled.add_argument
    add("--data", metavar="DATA",
        help="pairs: scenes; interfacegan, mapper: rendered portraits, a folder of images, or "
        "celeba-hq:FOLDER:train")  # fmt: skip
    add("--heldout", metavar="DATA",
        help="portraits whose first pictures measure (default: the first of --data)")  # fmt: skip
    add("--holdout", type=int, default=512, metavar="N",
        help="first pictures that only measure; also left out of --data (default 512)")  # fmt: skip
    add("--labels", type=Path, metavar="FILE",
        help="labels of a folder of images: a CSV, list_attr_celeba.txt or CelebAMask-HQ's")  # fmt: skip
    add("--names", nargs="+", default=[], metavar="NAME", help="attributes (default: all there are)")
    add("--condition", nargs="+", metavar="NAME",
        help="attributes that a direction must leave alone: all (default of interfacegan), "
        "none (of pairs), or names")  # fmt: skip
    add("--minimum-auc", type=float, default=0.75, metavar="A",
        help="refuse a direction whose held-out AUC is lower (default 0.75)")  # fmt: skip
    add("--most-leakage", type=float, default=1 / 3, metavar="X",
        help="share of the effect by which another attribute may change (default a third)")  # fmt: skip
    add("--rendered", type=int, default=64, metavar="N",
        help="held-out pictures whose edits are rendered to measure effects (default 64)")  # fmt: skip
    add("--keep", type=Path, metavar="DIR", help="folder that keeps E0's codes for the next run")
    free = p.add_argument_group("ganspace and sefa")
    add = free.add_argument
    add("--components", type=int, default=10, metavar="K", help="how many (default 10)")
    add("--samples", type=int, default=10_000, metavar="N",
        help="of W, a mapper's too where no --data is given (default 10000)")  # fmt: skip
    add("--seed", type=int, default=0, help="of samples, and of a mapper's beginning (default 0)")
    add("--layers", metavar="A-B", help="latents that are moved, and whose weights sefa takes (default: all)")
    _add_text(p)
    p.add_argument("--threads", type=int, default=0, help="CPU threads (default: PyTorch's)")
    return p


def _add_text(p: argparse.ArgumentParser) -> None:
    add = p.add_argument_group("styleclip, latent and mapper").add_argument
    add("--clip", type=Path, metavar="FILE",
        help="CLIP: OpenAI's ViT-B-32.pt, Hugging Face's or open_clip's safetensors (default: "
        "portraits-CLIP, for rendered portraits)")  # fmt: skip
    add("--vocabulary", type=Path, metavar="FILE", help="CLIP's bpe_simple_vocab_16e6.txt.gz or merges.txt")
    add("--images", type=int, default=48, metavar="N", help="styleclip: generated, to measure on (48)")
    add = p.add_argument_group("latent and mapper").add_argument
    add("--text", metavar="TEXT", help="the text that pictures shall show")
    add("--image", type=Path, nargs="+", default=[], metavar="FILE", help="pictures that get a step each")
    add("--mapper", type=Path, metavar="FILE", help="mapper that was trained before, for --image")
    add("--arcface", type=Path, metavar="FILE",
        help="ArcFace's model_ir_se50.pth (default, with portraits-CLIP: portraits-ID)")  # fmt: skip
    for name, kind, help_text in (
        ("steps", int, "of the optimisation"),
        ("learning-rate", float, "of Adam"),
        ("lambda-l2", float, "weight of the step in the latents"),
        ("lambda-id", float, "weight of the identity, 0 for none"),
    ):
        usual = (getattr(values, name.replace("-", "_")) for values in DEFAULTS.values())
        text = f"{help_text} (default {', '.join(map(str, usual))} of {', '.join(DEFAULTS)})"
        add(f"--{name}", type=kind, metavar="X", help=text)
    add("--batch", type=int, default=2, metavar="N", help="of a mapper's step (default 2)")
    add("--device", choices=("cpu", "cuda"), default="cpu", help="that optimises (default cpu)")


def check(args: argparse.Namespace) -> None:
    """Refuse options that do not fit together. Raises UserError, status 2."""
    for name in ("holdout", "rendered", "components", "samples", "images", "batch"):
        if getattr(args, name) < 1:
            raise UserError(f"--{name} {getattr(args, name)}: must be at least 1", 2)
    if args.method in ("pairs", "interfacegan") and not args.data:
        raise UserError(f"--data: {args.method} needs pictures", 2)
    if bool(args.clip) != bool(args.vocabulary):
        raise UserError("--clip, --vocabulary: CLIP needs both of its files", 2)
    if args.clip and args.method not in BY_TEXT:
        raise UserError(f"--clip: for {', '.join(BY_TEXT)} only", 2)
    _check_text(args)
    if args.method == "pairs" and args.labels:
        raise UserError("--labels: for interfacegan only; pairs reads rendered scenes", 2)
    if args.heldout and args.labels:
        raise UserError("--heldout: not with --labels; the first of the labelled images are held out", 2)


def _check_text(args: argparse.Namespace) -> None:
    """The options of latent and mapper; those that were not given get the method's own."""
    if args.method not in DEFAULTS:
        for name in ("text", "image", "mapper", "arcface", *Settings._fields):
            if getattr(args, name):
                raise UserError(f"--{name.replace('_', '-')}: for latent and mapper only", 2)
        return
    if args.mapper and (args.method == "latent" or args.text or args.data or not args.image):
        raise UserError("--mapper: goes with method mapper and --image, without --text and --data", 2)
    if args.method == "mapper" and args.image and not args.mapper:
        raise UserError("--image: needs --mapper FILE; train it first, with --text and --data", 2)
    if not (args.text or args.mapper) or args.method == "latent" and not args.image:
        raise UserError("--text: latent needs --text and --image, mapper --text, or --mapper and --image", 2)
    for name, value in DEFAULTS[args.method]._asdict().items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    if args.steps < 2 or not args.learning_rate > 0 or not min(args.lambda_l2, args.lambda_id) >= 0:
        raise UserError("--steps: at least 2; --learning-rate: above 0; --lambda-l2, -id: not below 0", 2)
    if args.device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise UserError("--device cuda: PyTorch finds none here; leave it out", 2)


def layers_of(text: str | None, n_latent: int) -> range:
    """The latents that `--layers A-B` names, both ends included. Raises UserError, status 2."""
    if text is None:
        return range(n_latent)
    first, _, last = text.partition("-")
    if not (first.isdigit() and (last or first).isdigit() and int(first) <= int(last or first) < n_latent):
        raise UserError(f"--layers {text}: write A-B between 0 and {n_latent - 1}", 2)
    return range(int(first), int(last or first) + 1)


def without_labels(args: argparse.Namespace, generator: "Generator", origin: str) -> None:
    """GANSpace and SeFa: write the components, and print how far W spreads along each."""
    import numpy as np

    from wagi.editing import components
    from wagi.experiments.tables import markdown_table
    from wagi_rt.directions import SUFFIX, Direction, write

    layers = layers_of(args.layers, generator.n_latent)
    if args.components > generator.style_dim:
        raise UserError(f"--components {args.components}: W has {generator.style_dim} dimensions", 2)
    if args.method == "ganspace" and args.samples <= args.components:
        raise UserError(f"--samples {args.samples}: must be more than --components {args.components}", 2)
    latents = components.samples(generator, args.samples, args.seed)
    if args.method == "ganspace":
        vectors = components.ganspace(latents, args.components)
    else:
        vectors = components.sefa(generator, args.components, layers)
    rows = []
    for k, (vector, deviation) in enumerate(zip(vectors, components.spread(latents, vectors), strict=True)):
        name, step = f"{args.method}-{k:02d}", vector * deviation
        if args.layers:
            step = np.where(np.isin(np.arange(generator.n_latent), layers)[:, None], step, 0)
        unit = "one standard deviation of W"
        write(args.out / (name + SUFFIX), Direction(name, step, unit, generator=origin, note=args.method))
        rows.append({"name": name, "deviation": float(deviation), "layers": args.layers or "all"})
    print(markdown_table(rows, ("name", "deviation", "layers")))


def towers_of(args: argparse.Namespace) -> "Towers":
    """CLIP of the files that were given, else portraits-CLIP. Raises UserError."""
    from wagi.editing import towers

    if not args.clip:
        return towers.portraits()
    from wagi.conversion import clip_files
    from wagi_rt.texts import read_merges

    return towers.Towers(args.clip.name, clip_files.read(args.clip), read_merges(args.vocabulary))


def by_text(args: argparse.Namespace, generator: "Generator") -> None:
    """StyleCLIP's global way: write what edits by text need, and print the styles that matter most."""
    from wagi.editing import styleclip

    name, network, merges = towers_of(args)
    if merges is None:
        model = styleclip.portraits_clip(generator, args.images, args.seed)
    else:
        model = styleclip.clip(network, name, merges, generator, args.images, args.seed)  # type: ignore[arg-type]
    styleclip.write(args.out, model)
    moved = int((model.table[:, 0] > 0).sum())
    print(f"{args.out}: {model.name}, {moved} of {len(model.table)} styles, over {args.images} images")


def towards(
    args: argparse.Namespace, generator: "Generator", model: "NaiveInverter | None", origin: str
) -> None:
    """StyleCLIP's other two ways: write the steps towards a text, and print what they reach."""
    from wagi.editing import by_text
    from wagi.experiments.tables import markdown_table

    towers = None if args.mapper else towers_of(args)
    rows = by_text.find(args, towers, generator, model, origin)
    print(markdown_table(rows, by_text.COLUMNS))


def run(args: argparse.Namespace) -> None:
    """Find, measure, write, print. Raises UserError."""
    check(args)
    import torch

    from wagi import checkpoint
    from wagi.model import NaiveInverter

    if args.threads:
        torch.set_num_threads(args.threads)
    content = checkpoint.read(args.model)
    generator: Generator = checkpoint.build_loaded(content, "generator", args.model)  # type: ignore[assignment]
    origin = checkpoint.weights_hash(generator)
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        if args.method in ("ganspace", "sefa"):
            without_labels(args, generator, origin)
            return
        if args.method == "styleclip":
            by_text(args, generator)
            return
        if args.method == "mapper" and not (args.data or args.mapper):
            towards(args, generator, None, origin)
            return
        encoder = checkpoint.build_loaded(content, "encoder", args.model)
        reads = checkpoint.model_config(content, args.model).reads
        model = NaiveInverter(generator, encoder, **reads).eval()  # type: ignore[arg-type]
        if args.method in DEFAULTS:
            towards(args, generator, model, origin)
            return
        from wagi.editing import finding
        from wagi.experiments.tables import markdown_table
        from wagi.standins.model import PortraitsFeatures, load

        network = load(PortraitsFeatures)
        rows = finding.find(args, model, origin, network.predict)
        print(markdown_table(rows, finding.COLUMNS))
    except OSError as error:
        raise UserError(f"--out {args.out}: cannot be written ({error.strerror or error})") from None
    if all(row["kept"] != "yes" for row in rows):
        raise UserError("no direction holds; the table says why (more pictures? --condition? --minimum-auc?)")


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 1 the work failed or nothing holds, 2 wrong usage."""
    args = parser().parse_args(argv)
    again = "; run the same command again" + ("" if args.method in BY_TEXT else " to go on")
    return run_command(lambda: run(args), again)


if __name__ == "__main__":
    sys.exit(main())
