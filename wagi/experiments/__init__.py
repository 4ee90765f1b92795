"""The paper's experiments, and those beyond it: `python -m wagi.evaluate NAME ...`.

Each module has `parser() -> ArgumentParser` and `run(args)`, and writes OUT/NAME.md, NAME.json and figures.
"""

EXPERIMENTS: dict[str, str] = {
    "table1": "wagi.experiments.table1",
    "table2": "wagi.experiments.table2",
    "table3": "wagi.experiments.table3",
    "table4": "wagi.experiments.table4",
    "wave-loss": "wagi.experiments.wave_loss",
    "bands": "wagi.experiments.bands",
    "paper": "wagi.experiments.paper",
    "figure1": "wagi.experiments.figure1",
    "figure2a": "wagi.experiments.figure2a",
    "figure6": "wagi.experiments.figure6",
    "figure8": "wagi.experiments.figure8",
    "figure9": "wagi.experiments.figure9",
    "figure10": "wagi.experiments.figure10",
    "figure11": "wagi.experiments.figure11",
    "figure12": "wagi.experiments.figure12",
    "edit": "wagi.experiments.edit",
    "edits": "wagi.experiments.edits",
    "texts": "wagi.experiments.texts",
    "figure5": "wagi.experiments.figure5",
    "samples": "wagi.experiments.samples",
    "ood": "wagi.experiments.ood",
    "origins": "wagi.experiments.origins",
    "detail": "wagi.experiments.detail",
    "sheet": "wagi.experiments.sheet",
    "flicker": "wagi.experiments.flicker",
}
