"""Public weight files in, our checkpoints out: what `python -m wagi.convert` is made of."""

KINDS = (
    "swagan-tf", "swagan", "stylegan2", "e4e", "psp", "restyle-e4e", "restyle-psp", "w-encoder", "hyperstyle",
    "hfgi", "irse50", "lpips-alex", "lpips-vgg", "alexnet", "vgg16", "interfacegan", "ganspace", "wagi",
)  # fmt: skip
