"""An engine against PyTorch: every graph of a bundle, a whole inversion and an edit, at any batch size.

PyTorch's values come from the model itself (export/parity.py), or, 64 for each output, from the bundle
(wagi_rt/probes.py). Limits are the manifest's, or those of the engine where it computes in less.
"""

from collections.abc import Iterator, Sequence
from math import isfinite

import numpy as np

from export.rows import Arrays, Recorded, Row, in_batches, record, row
from wagi_rt import probes
from wagi_rt.chain import EDIT, FUSED, PIPELINE, Chain, Step, fused
from wagi_rt.engines.base import Engine
from wagi_rt.errors import UserError
from wagi_rt.metrics import PEAK

# Names of the rows that are not graphs: the separate graphs run in turn, an edit that changes nothing against
# the inversion, and one image at a time.
WHOLE, EDITED, UNCHANGED, BATCHES = "inversion", "editing", "no change", "batch 1 = 3"


class _Judge:
    """Makes rows for one engine."""

    def __init__(self, engine: Engine, backend: str) -> None:
        self.engine, self.manifest, self.backend = engine, engine.manifest, backend

    def limits(self, graph: str) -> tuple[float, float]:
        if self.engine.limit_psnr_db is not None:
            return float("inf"), self.engine.limit_psnr_db
        stored = self.manifest.graphs[graph]
        return stored.tolerance, stored.limit_psnr_db

    def row(
        self,
        name: str,
        found: Arrays,
        wanted: Arrays,
        batch: int,
        limits_of: str = "decode",
        fed: bool = False,
    ) -> Row:
        """fed: `found` comes from what other graphs of the engine made."""
        limits, peak = self.limits(limits_of), None
        if (int8 := self.manifest.int8) and (fed or not isfinite(self.manifest.graphs[limits_of].tolerance)):
            # int8 counts by what becomes of pictures; what lies before them has no limit.
            makes = self.manifest.parts[limits_of].makes
            pictures = {key: value for key, value in wanted.items() if makes.get(key, key) == "result"}
            limits = float("inf"), int8.limit_psnr_db if pictures else float("-inf")
            wanted, peak = pictures or wanted, PEAK if pictures else None
        pairs = [found[key] for key in wanted], wanted.values()
        return row(name, *pairs, limits, self.backend, batch, peak)

    def runs(self, chain: Chain) -> bool:
        """True where the engine has all that the chain needs."""
        built = self.engine.built
        return built is None or {step.name for step in chain.steps} <= built

    def chain(self, chain: Chain, inputs: Arrays, batch: int) -> Arrays:
        return in_batches(lambda part: self.engine.run_chain(chain, part), inputs, batch)


def compare(
    engine: Engine, wanted: Recorded, batches: Sequence[int] = (), backend: str = "onnx"
) -> list[Row]:
    """Every graph, the inversion and an edit against what PyTorch `wanted`, value by value.

    Each is given PyTorch's inputs, so that a difference is its own, `batches` images at a time (empty: all
    at once). What the engine has not built has no row.
    """
    judge, manifest = _Judge(engine, backend), engine.manifest
    count = len(wanted[PIPELINE][0]["image"])
    rows = []
    for name in [name for name in wanted if name in manifest.graphs]:
        inputs, outputs = wanted[name]
        graph = manifest.graphs[name]
        chain = Chain.of(Step(name, tuple(graph.inputs), tuple(graph.outputs)))
        for batch in batches or (count,):
            if judge.runs(chain):
                found = judge.chain(chain, inputs, batch)
                rows.append(judge.row(name, found, outputs, batch, limits_of=name))
    for batch in batches or (count,):
        rows += _chains(judge, wanted, batch)
    return rows + _mixed(judge, wanted[PIPELINE][0], count)


def _chains(judge: _Judge, wanted: Recorded, batch: int) -> Iterator[Row]:
    """The separate graphs in turn: an inversion, an edit, and an edit of nothing against the inversion."""
    whole, edit = judge.manifest.inversion, judge.manifest.edit
    kept = [name for name in edit.inputs if name != "edit_ws"]
    found: Arrays = {}
    if judge.runs(whole):
        inputs, outputs = wanted[PIPELINE]
        found = judge.chain(whole.yielding(*dict.fromkeys([*whole.outputs, *kept])), inputs, batch)
        yield judge.row(WHOLE, found, outputs, batch, fed=True)
    if judge.runs(edit):
        inputs, outputs = wanted[EDIT]
        yield judge.row(EDITED, judge.chain(edit, inputs, batch), outputs, batch)
    if found and judge.runs(edit):
        given = {name: found[name] for name in kept} | {"edit_ws": found["ws"]}
        yield judge.row(UNCHANGED, judge.chain(edit, given, batch), {"result": found["result"]}, batch)


def _mixed(judge: _Judge, inputs: Arrays, count: int) -> list[Row]:
    """The same images one at a time and together: a batch must not change an image."""
    chain = judge.manifest.inversion
    if not judge.runs(chain):
        return []
    alone, together = (judge.chain(chain, inputs, batch)["result"] for batch in (1, count))
    return [judge.row(BATCHES, {"result": alone}, {"result": together}, 1, fed=True)]


# ---------------------------------------------------------------------------------------------- probes


def compare_probes(
    engine: Engine, batches: Sequence[int] = (probes.BATCH,), backend: str = "onnx"
) -> list[Row]:
    """A bundle against its stored probes; graphs are fed with each other's results, as in an inversion."""
    judge, manifest = _Judge(engine, backend), engine.manifest
    stored = probes.stored(manifest)
    # A bundle of before stores nothing for the pipeline.
    if stored is None or set(probes.judged(manifest)) - {PIPELINE} != set(stored.values) - {PIPELINE}:
        message = "no stored reference values; compare with its model: --checkpoint C"
        raise UserError(f"{manifest.folder}: {message}")
    wanted = dict(stored.values)
    if PIPELINE in manifest.graphs:
        last = manifest.inversion.steps[-1]
        result = wanted[last.name][last.outputs[0]]
        wanted.setdefault(PIPELINE, {"ws": wanted["encoder"]["ws"], "result": result})
    images = {"image": probes.images(manifest.size, stored.seed)}
    rows = []
    for batch in batches:
        made = _walked(judge, images, batch)
        for name in [name for name in wanted if name in made]:
            found = {key: probes.pick(made[name][key], stored.seed) for key in wanted[name]}
            rows.append(judge.row(name, found, wanted[name], batch, name, fed=True))
    return rows + _mixed(judge, images, probes.BATCH)


def _walked(judge: _Judge, images: Arrays, batch: int) -> dict[str, Arrays]:
    """Outputs by graph of inversions and of the probes' edit of them, `batch` images at a time."""
    parts: list[Recorded] = []

    def run(given: Arrays) -> Arrays:
        parts.append(record(judge.engine, _everything(judge, given), given))
        return {}

    in_batches(run, images, batch)
    return {
        name: {key: np.concatenate([part[name][1][key] for part in parts]) for key in made}
        for name, (_, made) in parts[0].items()
    }


def _everything(judge: _Judge, tensors: Arrays) -> Iterator[Chain]:
    """The chains that the engine has, in an order in which each finds its inputs in `tensors`."""
    manifest = judge.manifest
    if judge.runs(manifest.inversion):
        yield manifest.inversion
        tensors["edit_ws"] = probes.edited(tensors["ws"])
        whole = fused(manifest.edit, EDIT)
        yield from (chain for chain in (manifest.edit, whole) if judge.runs(chain) and _has(judge, chain))
    if judge.runs(FUSED) and _has(judge, FUSED):
        yield FUSED


def _has(judge: _Judge, chain: Chain) -> bool:
    return set(chain.graphs) <= set(judge.manifest.graphs)
