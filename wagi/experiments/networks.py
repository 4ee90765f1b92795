"""The networks that judge pictures in experiments, by their names in reports: public files, or stand-ins."""

import argparse
from pathlib import Path

from wagi.features import LPIPS, ArcFace, FeatureFiles
from wagi.metrics import Metric
from wagi.standins import model

FILES = ("lpips_trunk", "lpips_linear", "arcface")


def add_networks(parser: argparse.ArgumentParser | argparse._ArgumentGroup, standins: str = "") -> None:
    """The options of the networks; `standins`: the help of --standins, which is left out without one."""
    add = parser.add_argument
    add("--lpips-trunk", type=Path, metavar="FILE", help="public AlexNet weights for LPIPS")
    add("--lpips-linear", type=Path, metavar="FILE", help="public LPIPS v0.1 linear weights")
    add("--arcface", "--irse50", type=Path, metavar="FILE", help="public ArcFace IR-SE50 weights for ID")
    if standins:
        add("--standins", action="store_true", help=standins)


def files_of(args: argparse.Namespace) -> FeatureFiles:
    """The weight files of `add_networks`."""
    return FeatureFiles(args.lpips_trunk, args.lpips_linear, args.arcface)


def words_of(files: FeatureFiles) -> tuple[str, ...]:
    """The weight files as options of wagi.train."""
    given = {name: getattr(files, name) for name in FILES}
    pairs = ((f"--{name.replace('_', '-')}", str(path)) for name, path in given.items() if path)
    return tuple(word for pair in pairs for word in pair)


def names_of(files: FeatureFiles, standins: bool) -> tuple[str, ...]:
    """The names of `networks`, without opening a file."""
    perceptual, identity = files.lpips_trunk or files.lpips_linear, files.arcface
    chosen = {"LPIPS": perceptual, "ID": identity, model.LOOKS: standins, model.WHO: standins}
    return tuple(name for name, wanted in chosen.items() if wanted)


def networks(files: FeatureFiles, standins: bool) -> dict[str, Metric]:
    """LPIPS and ID of the files that are given, and the stand-ins. UserError names a bad file."""
    make = {
        "LPIPS": lambda: LPIPS(files.lpips_trunk, files.lpips_linear),
        "ID": lambda: ArcFace(files.arcface),
        model.LOOKS: lambda: model.load(model.PortraitsFeatures),
        model.WHO: lambda: model.load(model.PortraitsID),
    }
    return {name: make[name]() for name in names_of(files, standins)}


def standin_metrics() -> dict[str, Metric]:
    """The stand-in networks for portraits."""
    return networks(FeatureFiles(), True)
