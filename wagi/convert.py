"""Read public weights: what they are, what fits together, and the same weights in this project's format.

python -m wagi.convert --info stylegan-swagan-ffhq.pkl model_ir_se50.pth
python -m wagi.convert stylegan-swagan-ffhq.pkl -o swagan.pt
python -m wagi.convert e4e_ffhq_encode.pt -o e4e.safetensors --licence MIT
python -m wagi.convert runs/g/checkpoint.pt -o public.pt --to rosinality
"""

import argparse
import sys
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

from wagi.conversion import KINDS
from wagi.errors import UserError, run_command

if TYPE_CHECKING:
    from wagi.conversion.kinds import Converted
    from wagi.conversion.sources import Source

_USE = {
    "generator": "python -m wagi.train encoder --generator {path}",
    "encoder": "python -m wagi.train inversion --encoder {path}",
    "inversion": "python export/to_onnx.py --checkpoint {path} -o BUNDLE",
    "hypernetwork": "python -m wagi.evaluate --model {path} --data PHOTOS --protocol wagi",
    "irse50": "python -m wagi.train encoder --irse50 {path}",
    "lpips-alex": "python -m wagi.train encoder --lpips-linear {path}",
    "alexnet": "python -m wagi.train encoder --lpips-trunk {path}",
}
_OUTPUT = ("a folder, such as DIRECTIONS", "*.pt or *.safetensors")


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m wagi.convert",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("source", nargs="+", type=Path, help="weight file; several with --info")
    p.add_argument("-o", "--output", type=Path, metavar="OUT",
        help="file to write: *.pt or *.safetensors; a folder for GANSpace's components")  # fmt: skip
    p.add_argument(
        "--kind", choices=("auto", *KINDS), default="auto", metavar="KIND",
        help=f"what SOURCE is: {', '.join(KINDS)} (default: found from its contents)",
    )  # fmt: skip
    p.add_argument(
        "--info", action="store_true", help="print what each file is and what fits together; write nothing"
    )
    p.add_argument(
        "--to", choices=("wagi", "rosinality"), default="wagi",
        help="layout of OUT: ours (default), or the generator in the public PyTorch layout",
    )  # fmt: skip
    p.add_argument("--half", action="store_true", help="store OUT (*.safetensors) in half precision")
    p.add_argument("--licence", default="", metavar="TEXT", help="licence note that goes into OUT")
    p.add_argument("--generator", type=Path, metavar="CKPT", help="generator that directions must fit")
    p.add_argument(
        "--made-for", choices=("stylegan2", "swagan"), help="whose W directions are in (default stylegan2)"
    )
    p.add_argument("--w-encoder", type=Path, metavar="FILE",
        help="for HyperStyle: the encoder that its inversions begin with (faces_w_encoder.pt)")  # fmt: skip
    p.add_argument("--overwrite", action="store_true", help="replace OUT")
    return p


# ------------------------------------------------------------------------------------------------ --info


def describe(found: "Converted", path: Path) -> list[str]:
    """The file in lines for people."""
    lines = [f"{path}: {found.what}"]
    if (config := found.config) is not None:
        family = {"swagan": "SWAGAN", "stylegan2": "StyleGAN2"}[config.generator]
        k = config.to_rgb_kernel
        kernel = f", tWavelets {k}x{k}" if config.generator == "swagan" else ""
        styles = f"{config.n_latent} styles of {config.style_dim}"
        lines.append(f"  generator   {family}, {config.size} px, {styles}{kernel}")
        lines.append(f"  channels    at most {config.max_channels}, multiplier {config.channel_multiplier:g}")
        lines.append(f"  contains    {', '.join(found.parts)}")
    count = sum(value.numel() for state in (*found.parts.values(), found.flat) for value in state.values())
    lines.append(f"  numbers     {count / 1e6:.2f} million")
    lines += [f"  {name:<11} {value}" for name, value in found.facts.items()]
    return lines


def fits(a: "Converted", b: "Converted") -> str | None:
    """The answer to whether two files work together; None when the question makes no sense."""
    from wagi.conversion.public_directions import require_fit

    for one, other in ((a, b), (b, a)):
        if one.kind in ("interfacegan", "ganspace") and other.config is not None:
            try:
                require_fit(one.facts, other.config, "no")
            except UserError as error:
                return str(error)
            return "yes: directions in the W of this generator"
    if a.config is None or b.config is None:
        return None
    if "encoder" not in a.parts and "encoder" not in b.parts:
        return None
    same = [getattr(a.config, name) == getattr(b.config, name) for name in ("generator", "size", "style_dim")]
    if all(same):
        return "yes in shape: the same latents; the encoder must have been trained for these very weights"
    return (
        f"no: {a.config.generator} {a.config.size} px has {a.config.n_latent} styles, {b.config.generator} "
        f"{b.config.size} px has {b.config.n_latent}; W spaces of different networks are not interchangeable"
    )


def info(found: "dict[Path, Converted]") -> None:
    for path, item in found.items():
        print("\n".join(describe(item, path)))
    for (path, item), (other_path, other) in combinations(found.items(), 2):
        if (answer := fits(item, other)) is not None:
            print(f"{path.name} with {other_path.name}: {answer}")


# --------------------------------------------------------------------------------------------- convert


def load(path: Path, kind: str, made_for: str | None) -> "tuple[Source, Converted]":
    """The file, without its content, and what it became."""
    from wagi.conversion.kinds import convert
    from wagi.conversion.sources import open_source

    source = open_source(path)
    found = convert(source, kind)
    source.content = None  # a pickle of three networks is large
    if found.kind in ("interfacegan", "ganspace") and made_for:
        found.facts["made_for"] = made_for
    return source, found


def run(args: argparse.Namespace) -> None:
    """Raises UserError; then nothing was written."""
    from wagi.conversion import files
    from wagi.conversion.hyperstyle import join
    from wagi.conversion.public_directions import require_fit, write_components

    if args.info:
        info({path: load(path, args.kind, args.made_for)[1] for path in args.source})
        return
    if len(args.source) > 1:
        raise UserError(f"{args.source[1]}: one SOURCE at a time, or --info", 2)
    if args.output is None:
        raise UserError("-o: is needed (or --info)", 2)
    files.check_output(args.output, args.source[0], args.overwrite)
    source, found = load(args.source[0], args.kind, args.made_for)
    if found.kind == "hyperstyle":
        if not args.w_encoder:
            raise UserError("--w-encoder: is needed; HyperStyle's file has no encoder", 2)
        join(found, load(args.w_encoder, "auto", None)[1], str(args.w_encoder))
    generator = ""
    if args.generator and found.kind in ("interfacegan", "ganspace"):
        from wagi import checkpoint

        content = checkpoint.read(args.generator)
        require_fit(found.facts, checkpoint.model_config(content, args.generator), str(source.path))
        generator = checkpoint.weights_hash(checkpoint.build_loaded(content, "generator", args.generator))
    if bool(args.output.suffix) == (found.kind == "ganspace"):
        wanted = "GANSpace components become a folder" if args.output.suffix else "this becomes one file"
        raise UserError(f"-o {args.output}: {wanted}; name {_OUTPUT[not args.output.suffix]}", 2)
    if found.kind == "ganspace":
        write_components(args.output, found.flat, source, generator)
    elif args.to == "rosinality":
        files.write_rosinality(found, args.output)
        if found.config is not None and found.config.to_rgb_kernel != 1:
            print("note: tWavelets are 3x3; the public code builds 1x1 and must be changed", file=sys.stderr)
    else:
        words = files.metadata(found, source, args.licence)
        files.write(found, args.output, words | ({"generator": generator} if generator else {}), args.half)
    print("\n".join(describe(found, source.path)))
    use = _USE.get(found.stage or found.kind) if args.to == "wagi" else None
    print(f"{args.output}: written" + (f"; next: {use.format(path=args.output)}" if use else ""))


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 1 the file was refused, 2 wrong usage."""
    args = parser().parse_args(argv)
    return run_command(lambda: run(args), "; nothing was written")


if __name__ == "__main__":
    sys.exit(main())
