"""Names and shapes of encoders, alignment and fusion equal those of the public checkpoints, both ways."""

from collections.abc import Callable

import published
import pytest
import torch
from torch import nn

from wagi.errors import UserError
from wagi.networks.alignment import DistortionAligner
from wagi.networks.e4e import Backbone, Encoder4Editing, LatentDiscriminator
from wagi.networks.fusion import ConsultationEncoder

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "e4e_encoder_12styles": lambda: Encoder4Editing(12),
    "e4e_encoder_14styles": lambda: Encoder4Editing(14),
    "e4e_encoder_16styles": lambda: Encoder4Editing(16),
    "e4e_encoder_1024": lambda: Encoder4Editing(18),
    "psp_encoder_1024": lambda: Encoder4Editing(18),
    "e4e_latent_discriminator": LatentDiscriminator,
    "ir_se50_arcface": Backbone,
    "hfgi_ada": DistortionAligner,
    "hfgi_residue": lambda: ConsultationEncoder(256, {64: 512}),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_names_and_shapes_equal_the_published(name):
    with torch.device("meta"):
        module = NETWORKS[name]()
    lines = published.difference(module, published.state_dict(name))
    assert not lines, f"{name}: {len(lines)} differences\n" + "\n".join(lines[:40])


@pytest.mark.parametrize("name", ["hfgi_ada", "hfgi_residue", "e4e_latent_discriminator"])
def test_a_published_state_dict_loads_strictly(name):
    """Values arrive, not only names: a state dict made from the listing alone comes back unchanged."""
    torch.manual_seed(0)
    state = {
        key: torch.randn(entry["shape"]).to(getattr(torch, entry["dtype"]))
        for key, entry in published.state_dict(name).items()
    }
    module = NETWORKS[name]()
    module.load_state_dict(state, strict=True)
    assert all(torch.equal(value, state[key]) for key, value in module.state_dict().items())


def test_a_difference_is_found_and_readable():
    with torch.device("meta"):
        module = DistortionAligner((16, 32, 48, 72))
        module.extra = nn.PReLU()
    lines = published.difference(module, published.state_dict("hfgi_ada"))
    assert "only ours: extra.weight [1]" in lines
    assert any(line.startswith("conv_layer4.0.res_layer.1.weight: ours ([72, 48, 3, 3]") for line in lines)


def test_backbone_initialises_input_layer_and_body():
    """The ArcFace state dict sets exactly the shared entries; its output layer and e4e's heads stay out."""
    encoder = Encoder4Editing(2, style_dim=4)
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    state = {
        key: torch.full(entry["shape"], 3, dtype=getattr(torch, entry["dtype"]))
        for key, entry in published.state_dict("ir_se50_arcface").items()
    }
    encoder.initialise_from_backbone(state)
    for key, value in encoder.state_dict().items():
        shared = key.startswith(("input_layer.", "body."))
        assert torch.equal(value, state[key] if shared else before[key]), key


def test_wrong_backbone_is_a_user_error():
    with torch.device("meta"):
        encoder = Encoder4Editing(1)
        listing = published.state_dict("ir_se50_arcface")
        state = {key: torch.empty(entry["shape"]) for key, entry in listing.items()}
    del state["body.3.shortcut_layer.0.weight"]
    with pytest.raises(UserError, match=r"body\.3\.shortcut_layer\.0\.weight is missing"):
        encoder.initialise_from_backbone(state)
    state["input_layer.0.weight"] = torch.empty(64, 6, 3, 3)
    with pytest.raises(UserError, match=r"input_layer\.0\.weight is of shape \[64, 6, 3, 3\], expected"):
        encoder.initialise_from_backbone(state)
