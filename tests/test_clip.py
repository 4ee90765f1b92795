"""CLIP's public layouts: each gives the embedding that torch's own layers give from the same weights."""

import copy
import gzip
import json
import pickle
import warnings
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny_bundle import error_line
from torch import nn
from torch.nn.functional import adaptive_avg_pool2d, normalize

from wagi.conversion import clip_files
from wagi.errors import UserError
from wagi_rt.texts import BytePairs, Words, read_merges

WIDTH, LAYERS, PATCH, SIZE, CONTEXT, VOCABULARY, FEATURES = 64, 2, 8, 32, 12, 40, 24
TOKENS = torch.tensor([[38, 5, 9, 39, 0, 0, 0, 0, 0, 0, 0, 0], [38, 7, 39, 3, 3, 3, 3, 3, 3, 3, 3, 3]])


class Quick(nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(1.702 * x)


class Residual(nn.Module):
    """A block of torch's own layers under OpenAI's names."""

    def __init__(self):
        super().__init__()
        self.attn = nn.MultiheadAttention(WIDTH, 1)
        self.ln_1, self.ln_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.mlp = nn.Sequential()
        for name, layer in (
            ("c_fc", nn.Linear(WIDTH, 4 * WIDTH)), ("gelu", Quick()), ("c_proj", nn.Linear(4 * WIDTH, WIDTH))
        ):  # fmt: skip
            self.mlp.add_module(name, layer)

    def forward(self, x, mask):
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False, attn_mask=mask)[0]
        return x + self.mlp(self.ln_2(x))


class Blocks(nn.Module):
    def __init__(self):
        super().__init__()
        self.resblocks = nn.ModuleList(Residual() for _ in range(LAYERS))

    def forward(self, x, mask=None):  # N,L,C; torch's attention wants L,N,C
        x = x.transpose(0, 1)
        for block in self.resblocks:
            x = block(x, mask)
        return x.transpose(0, 1)


class Vision(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTH, PATCH, PATCH, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(WIDTH))
        self.positional_embedding = nn.Parameter(torch.randn((SIZE // PATCH) ** 2 + 1, WIDTH))
        self.ln_pre, self.ln_post = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.transformer = Blocks()
        self.proj = nn.Parameter(torch.randn(WIDTH, FEATURES))

    def forward(self, x):
        x = self.conv1(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_embedding.expand(len(x), 1, WIDTH), x], 1) + self.positional_embedding
        return self.ln_post(self.transformer(self.ln_pre(x))[:, 0]) @ self.proj


class Published(nn.Module):
    """The direct computation."""

    def __init__(self):
        super().__init__()
        self.visual, self.transformer = Vision(), Blocks()
        self.token_embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.positional_embedding = nn.Parameter(torch.randn(CONTEXT, WIDTH))
        self.ln_final = nn.LayerNorm(WIDTH)
        self.text_projection = nn.Parameter(torch.randn(WIDTH, FEATURES))
        self.logit_scale = nn.Parameter(torch.tensor(4.6))

    def forward(self, images, tokens):
        mask = torch.full((CONTEXT, CONTEXT), float("-inf")).triu(1)
        x = self.transformer(self.token_embedding(tokens) + self.positional_embedding, mask)
        x = self.ln_final(x)[torch.arange(len(x)), tokens.argmax(1)] @ self.text_projection
        return self.visual(images), x


@pytest.fixture(scope="module")
def published():
    torch.manual_seed(3)
    network = Published().eval().requires_grad_(False)
    for parameter in network.parameters():  # biases and norms, too
        parameter.add_(torch.randn_like(parameter) * 0.1)
        parameter.copy_(parameter.half())
    return network


@pytest.fixture(scope="module")
def wanted(published):
    """Unit features of two pictures in [-1, 1] and two texts."""
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(5)) * 2 - 1
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (
        (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)))  # fmt: skip
    shown = (adaptive_avg_pool2d(images / 2 + 0.5, SIZE) - mean) / std
    return images, *(normalize(found, dim=1) for found in published(shown, TOKENS))


def archive(published, path):
    """As OpenAI's file: traced, in half precision, with the sizes beside the weights."""
    network = copy.deepcopy(published)
    for name, size in (("input_resolution", SIZE), ("context_length", CONTEXT), ("vocab_size", VOCABULARY)):
        network.register_buffer(name, torch.tensor(size))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(network, (torch.zeros(1, 3, SIZE, SIZE), TOKENS), check_trace=False)
        traced.half().save(path)


def open_clip(published, path):
    save_file({name: value.contiguous() for name, value in published.state_dict().items()}, path)
    settings = {"model_cfg": {"quick_gelu": True}}
    (path.parent / "open_clip_config.json").write_text(json.dumps(settings))


def hugging_face(published, path):
    found = {}
    for name, value in published.state_dict().items():
        tower = "vision_model" if name.startswith("visual.") else "text_model"
        own = name.removeprefix("visual.")
        if own in ("proj", "text_projection"):
            found["visual_projection.weight" if own == "proj" else "text_projection.weight"] = value.T
        elif own == "logit_scale":
            found[own] = value
        elif "attn.in_proj" in own:
            layer, kind = own.split(".attn.in_proj_")
            layer = layer.replace("transformer.resblocks", "encoder.layers")
            for letter, part in zip("qkv", value.chunk(3), strict=True):
                found[f"{tower}.{layer}.self_attn.{letter}_proj.{kind}"] = part
        else:
            for old, new in (
                ("transformer.resblocks", "encoder.layers"), ("attn.out_proj", "self_attn.out_proj"),
                ("ln_1", "layer_norm1"), ("ln_2", "layer_norm2"), ("mlp.c_fc", "mlp.fc1"),
                ("mlp.c_proj", "mlp.fc2"), ("ln_pre", "pre_layrnorm"), ("ln_post", "post_layernorm"),
                ("ln_final", "final_layer_norm"), ("conv1", "embeddings.patch_embedding"),
                ("token_embedding", "embeddings.token_embedding"),
                ("class_embedding", "embeddings.class_embedding"),
            ):  # fmt: skip
                own = own.replace(old, new)
            if own == "positional_embedding":
                own = "embeddings.position_embedding.weight"
            found[f"{tower}.{own}"] = value
    found["text_model.embeddings.position_ids"] = torch.arange(CONTEXT)[None]
    save_file({name: value.contiguous() for name, value in found.items()}, path)


@pytest.mark.parametrize(
    "write, name", [(archive, "ViT.pt"), (hugging_face, "model.safetensors"), (open_clip, "oc.safetensors")]
)
def test_every_layout_gives_the_directly_computed_embedding(write, name, published, wanted, tmp_path):
    write(published, tmp_path / name)
    network = clip_files.read(tmp_path / name)
    images, image_features, text_features = wanted
    assert torch.allclose(network.image(images), image_features, atol=2e-6)
    assert torch.allclose(network.text(TOKENS), text_features, atol=2e-6)


def test_exact_gelu_where_open_clip_says_nothing(published, wanted, tmp_path):
    open_clip(published, tmp_path / "oc.safetensors")
    (tmp_path / "open_clip_config.json").write_text('{"model_cfg": {}}')
    found = clip_files.read(tmp_path / "oc.safetensors").text(TOKENS)
    assert 1e-5 < (found - wanted[2]).abs().max() < 0.1


# ---------------------------------------------------------------------------------------------- bad files


class Evil:
    def __reduce__(self):
        return print, ("run",)


def rewritten(source, target, change):
    """The archive with its data.pkl, or a record, replaced."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for item in old.infolist():
            new.writestr(item, change(item.filename, old.read(item)))


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda n, raw: pickle.dumps(Evil(), 2) if n.endswith("/data.pkl") else raw, "nothing was executed"),
        (lambda n, raw: raw[:8] if "/data/" in n else raw, "claims more numbers"),
        (lambda n, raw: b"" if n.endswith("/data.pkl") else raw, "refused"),
    ],
)
def test_a_damaged_or_hostile_archive_costs_one_line(change, message, published, tmp_path, capsys):
    archive(published, tmp_path / "whole.pt")
    rewritten(tmp_path / "whole.pt", tmp_path / "bad.pt", change)
    with pytest.raises(UserError, match=message) as found:
        clip_files.read(tmp_path / "bad.pt")
    assert "\n" not in str(found.value) and "run" not in capsys.readouterr().out.split()


def test_other_files_are_refused_in_one_line(tmp_path):
    save_file({"conv.weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    for path, message in (
        (tmp_path / "none.pt", "no such file"),
        (tmp_path / "other.safetensors", "no layout"),
    ):
        with pytest.raises(UserError, match=message) as found:
            clip_files.read(path)
        assert error_line(f"error: {found.value}")


# ------------------------------------------------------------------------------------------------- tokens


def test_merges_are_made_in_the_order_of_their_ranks(tmp_path):
    """By hand: l o w</w> -> lo w</w> -> low</w>, `er</w>` before `we`, so that `lower` is lo w er."""
    lines = ["#version: 0.2", "l o", "e r</w>", "w e", "lo w</w>"]
    for path, raw in (
        ("m.txt", "\n".join(lines).encode()),
        ("m.gz", gzip.compress("\n".join(lines).encode())),
    ):
        (tmp_path / path).write_bytes(raw)
        tokens = BytePairs(read_merges(tmp_path / path), 16)
        low, lo, er, w = 512 + 3, 512 + 0, 512 + 1, ord("w") - 33
        found = tokens("  Low&amp;LOWER ").tolist()
        ampersand = 256 + ord("&") - 33
        assert found[:7] == [516, low, ampersand, lo, w, er, 517] and not any(found[7:])


def test_the_published_numbers_of_the_full_list():
    """Of OpenAI's vocabulary: 49406 starts, 49407 ends, `!` is 0 and `!</w>` 256, byte 0xff 255."""
    tokens = BytePairs([("a", "b")] * 48894, 77)
    assert (tokens.start, tokens.end) == (49406, 49407)
    assert tokens("! \u00ff")[:5].tolist() == [
        49406,
        256,
        tokens.numbers["\u00c3"],
        tokens.numbers["\u00bf</w>"],
        49407,
    ]


def test_words_of_a_small_vocabulary():
    tokens = Words(["a", "hat", "red"], 6)
    assert tokens("A red, HAT").tolist() == [1, 3, 2, 4, 0, 0]
    for text, message in (
        ("a rad hat", "did you mean red"),
        ("...", "has no words"),
        ("a a a a a a", "reads 5"),
    ):
        with pytest.raises(Exception, match=message) as found:
            tokens(text)
        assert found.value.status == 2


def test_no_numpy_type_leaks_from_tokens():
    assert Words(["a"], 3)("a").dtype == np.int64
