"""`wagi-rt info`: what is in a bundle, and what this machine can run it with."""

from __future__ import annotations

import json
from argparse import Namespace
from typing import Any

from wagi_rt import __version__, measured
from wagi_rt.backends import describe
from wagi_rt.console import put
from wagi_rt.manifest import Manifest, read

_WAYS = {"pipeline": "one fused graph", "graphs": "separate graphs"}


def info(args: Namespace) -> int:
    """The command: reads the bundle, checks every hash, prints a table or JSON on stdout."""
    manifest = read(args.model, thorough=True)
    report = _report(manifest)
    if args.json:
        put(json.dumps(report))
    else:
        for line in _lines(manifest, report):
            put(line)
    return 0


def _report(manifest: Manifest) -> dict[str, Any]:
    sizes = {g.file: (manifest.folder / g.file).stat().st_size for g in manifest.graphs.values()}
    sizes |= {name: (manifest.folder / name).stat().st_size for name in manifest.files}
    return {
        "wagi": __version__,
        "bundle": str(manifest.folder),
        "name": manifest.name,
        "size": manifest.size,
        "resolution": manifest.resolution,
        "n_latent": manifest.n_latent,
        "style_dim": manifest.style_dim,
        "precision": manifest.precision,
        "int8": manifest.int8._asdict() if manifest.int8 else None,
        "tolerance": manifest.tolerance,
        "sha256": manifest.sha256,
        "created": manifest.created,
        "source": manifest.source,
        "files": sizes,
        "default": manifest.default,
        "engines": describe(),
        "auto": [
            {"threads": one.threads, "created": one.created, "rows": [row._asdict() for row in one.rows]}
            for one in measured.read_all(manifest)
        ],
    }


def _lines(manifest: Manifest, report: dict[str, Any]) -> list[str]:
    total = sum(report["files"].values()) / 1e6
    lines = [
        f"{manifest.name}: {manifest.size} px images, {manifest.precision}{manifest.with_int8}, "
        f"{manifest.n_latent} styles of {manifest.style_dim}, detail recovered at {manifest.resolution} px",
        f"bundle     {manifest.folder}",
        f"created    {manifest.created or 'unknown'}",
        f"sha256     {manifest.sha256} (manifest; all files verified)",
        f"runs       {_WAYS[manifest.default]}",
        f"tolerance  {manifest.tolerance:g} (largest difference from PyTorch that the export accepts)",
    ]
    if manifest.int8:
        found, limit = manifest.int8.psnr_db, manifest.int8.limit_psnr_db
        said = ", ".join(f"{name} {value:.1f} dB" for name, value in found.items())
        lines.append(f"int8       {said} against PyTorch, in place of a tolerance (limit {limit:g})")
    lines += [
        f"source     {key}: {value}" for key, value in manifest.source.items() if not isinstance(value, dict)
    ]
    lines += [f"file       {name:<14} {size / 1e6:9.3f} MB" for name, size in report["files"].items()]
    lines += [f"total      {total:.3f} MB"]
    for backend, engine in report["engines"].items():
        state = engine["detail"] if engine["available"] else f"not available: {engine['detail']}"
        lines.append(f"backend    {backend:<9} {state}")
    known = measured.read_all(manifest)
    for one in known:
        times = ", ".join(f"{title} {ms:.1f} ms" for title, ms in one.times(manifest.precision).items())
        lines.append(f"auto       {one.threads} threads: {times} ({one.created})")
    return lines + ([] if known else ["auto       not measured here; once: wagi-rt tune"])
