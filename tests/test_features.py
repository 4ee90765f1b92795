"""LPIPS and ArcFace from user-given files: values computed independently, strict and readable loading."""

import published
import pytest
import torch
import torch.nn.functional as F
from tolerances import TOL

from wagi.checkpoint import load_state
from wagi.errors import UserError
from wagi.features import LPIPS, ArcFace
from wagi.networks.irse import Backbone

# torchvision's layouts: index in `features` -> (in, out, kernel); the public lin files' channels.
CONVS = {
    "alex": {0: (3, 64, 11), 3: (64, 192, 5), 6: (192, 384, 3), 8: (384, 256, 3), 10: (256, 256, 3)},
    "vgg": {
        index: (inputs, outputs, 3)
        for index, inputs, outputs in [
            (0, 3, 64), (2, 64, 64), (5, 64, 128), (7, 128, 128), (10, 128, 256), (12, 256, 256),
            (14, 256, 256), (17, 256, 512), (19, 512, 512), (21, 512, 512), (24, 512, 512), (26, 512, 512),
            (28, 512, 512),
        ]
    },
}  # fmt: skip
LINS = {"alex": [64, 192, 384, 256, 256], "vgg": [64, 128, 256, 512, 512]}


def random_files(folder, net="alex", edit=None):
    """Weight files in the public layouts with random values; `edit(trunk, linear)` may damage them."""
    generator = torch.Generator().manual_seed(0)
    trunk, linear = {}, {}
    for index, (inputs, outputs, kernel) in CONVS[net].items():
        scale = (2 / (inputs * kernel * kernel)) ** 0.5
        weight = scale * torch.randn(outputs, inputs, kernel, kernel, generator=generator)
        trunk[f"features.{index}.weight"] = weight
        trunk[f"features.{index}.bias"] = 0.1 * torch.randn(outputs, generator=generator)
    trunk["classifier.1.weight"] = torch.zeros(4, 4)
    for k, channels in enumerate(LINS[net]):
        linear[f"lin{k}.model.1.weight"] = torch.rand(1, channels, 1, 1, generator=generator)
    if edit:
        edit(trunk, linear)
    paths = folder / "trunk.pth", folder / "linear.pth"
    torch.save(trunk, paths[0])
    torch.save(linear, paths[1])
    return *paths, trunk, linear


def direct_lpips(net, trunk, linear, x, y):
    """LPIPS v0.1 written out with torch.nn.functional only."""

    def conv(z, index, **options):
        weight, bias = trunk[f"features.{index}.weight"], trunk[f"features.{index}.bias"]
        return F.relu(F.conv2d(z, weight, bias, **options))

    def activations(image):
        red, green, blue = image.unbind(1)
        z = torch.stack([(red + 0.030) / 0.458, (green + 0.088) / 0.448, (blue + 0.188) / 0.450], dim=1)
        if net == "alex":
            one = conv(z, 0, stride=4, padding=2)
            two = conv(F.max_pool2d(one, 3, 2), 3, padding=2)
            three = conv(F.max_pool2d(two, 3, 2), 6, padding=1)
            four = conv(three, 8, padding=1)
            return [one, two, three, four, conv(four, 10, padding=1)]
        found = []
        for block in ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28)):
            for index in block:
                z = conv(z, index, padding=1)
            found.append(z)
            z = F.max_pool2d(z, 2)
        return found

    total = 0
    for k, (a, b) in enumerate(zip(activations(x), activations(y), strict=True)):
        a = a / (a.pow(2).sum(1, keepdim=True).sqrt() + 1e-10)
        b = b / (b.pow(2).sum(1, keepdim=True).sqrt() + 1e-10)
        weight = linear[f"lin{k}.model.1.weight"].view(1, -1, 1, 1)
        total = total + ((a - b) ** 2 * weight).sum(1).mean(dim=(1, 2))
    return total


def pair(n, size):
    x, y = (2 * torch.rand(2, n, 3, size, size, generator=torch.Generator().manual_seed(1)) - 1).unbind(0)
    return x, y


@pytest.mark.parametrize("net, size", [("alex", 64), ("alex", 96), ("vgg", 32)])
def test_lpips_equals_direct_computation(tmp_path, net, size):
    trunk_path, linear_path, trunk, linear = random_files(tmp_path, net)
    lpips = LPIPS(trunk_path, linear_path, net)
    x, y = pair(2, size)
    result = lpips(x, y)
    assert result.shape == (2,) and (result > 0.01).all()
    torch.testing.assert_close(result, direct_lpips(net, trunk, linear, x, y), **TOL[torch.float32])
    assert lpips(x, x).tolist() == [0, 0]


def test_lpips_is_frozen_and_differentiable(tmp_path):
    lpips = LPIPS(*random_files(tmp_path)[:2])
    lpips.train()
    assert not lpips.training and not lpips.features.training
    assert not any(parameter.requires_grad for parameter in lpips.parameters())
    x, y = pair(1, 64)
    # a black picture has places where no feature answers: their gradient must stay finite
    for image in (x, torch.full_like(x, -1.0)):
        image.requires_grad_()
        lpips(image, y).mean().backward()
        assert torch.isfinite(image.grad).all() and image.grad.abs().sum() > 0


@pytest.mark.parametrize("which, option", [(0, "--lpips-trunk"), (1, "--lpips-linear")])
def test_missing_file_names_the_option(tmp_path, which, option):
    paths = list(random_files(tmp_path)[:2])
    for given in (None, tmp_path / "absent.pth"):
        paths[which] = given
        with pytest.raises(UserError, match=f"{option}.*set the loss weight to 0") as caught:
            LPIPS(*paths)
        assert caught.value.status == 2 and "\n" not in str(caught.value)


def damage(key, value=None):
    def edit(trunk, linear):
        state = trunk if key.startswith("features") else linear
        if value is None:
            del state[key]
        else:
            state[key] = value

    return edit


@pytest.mark.parametrize(
    "edit, message",
    [
        (damage("features.0.bias"), "--lpips-trunk .*missing: features.0.bias"),
        (damage("features.99.bias", torch.zeros(3)), "--lpips-trunk .*unexpected: features.99.bias"),
        (damage("features.3.bias", torch.zeros(7)), r"features.3.bias \[7\] instead of \[192\]"),
        (damage("features.3.bias", torch.full((192,), float("nan"))), "NaN or infinite.*features.3.bias"),
        (damage("lin4.model.1.weight"), "--lpips-linear .*missing: lin4.model.1.weight"),
        (damage("lin0", torch.zeros(1, 64, 1, 1)), "--lpips-linear .*unexpected: lin0"),
        (damage("lin0.model.1.weight", torch.zeros(1, 3, 1, 1)), r"\[1, 3, .* instead of \[1, 64, 1, 1\]"),
        (damage("lin0.model.1.weight", "text"), "--lpips-linear .*not a flat dict of tensors"),
    ],
)
def test_wrong_weights_are_listed(tmp_path, edit, message):
    paths = random_files(tmp_path, edit=edit)[:2]
    with pytest.raises(UserError, match=message) as caught:
        LPIPS(*paths)
    assert caught.value.status == 1 and "\n" not in str(caught.value)


def test_wrong_network_is_summarised(tmp_path):
    paths = random_files(tmp_path, "vgg")[:2]
    with pytest.raises(UserError, match="missing: .*unexpected: .* and [0-9]+ more") as caught:
        LPIPS(*paths, net="alex")
    assert len(str(caught.value)) < 1000


CALLS_A_COMMAND = b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R."


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", CALLS_A_COMMAND])
def test_foreign_files_are_refused_without_running_them(tmp_path, content):
    _, linear = random_files(tmp_path)[:2]
    (tmp_path / "foreign.pth").write_bytes(content)
    with pytest.raises(UserError, match="not a PyTorch weight file") as caught:
        LPIPS(tmp_path / "foreign.pth", linear)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def arcface_file(tmp_path_factory):
    torch.manual_seed(0)
    backbone = Backbone()
    # statistics that are not the initial ones, so that train and eval mode differ
    for name, buffer in backbone.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.1)
    path = tmp_path_factory.mktemp("arcface") / "model_ir_se50.pth"
    torch.save(backbone.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def arcface(arcface_file):
    return ArcFace(arcface_file)


def test_arcface_crop_and_similarity(arcface, arcface_file):
    state = torch.load(arcface_file, weights_only=True, mmap=True)
    for name in ("input_layer.0.weight", "body.23.res_layer.4.running_mean", "output_layer.4.bias"):
        assert torch.equal(arcface.backbone.state_dict()[name], state[name])
    x, y = pair(1, 256)
    with torch.no_grad():
        faces = torch.cat([x, y])[:, :, 35:223, 32:220]
        a, b = arcface.backbone(F.adaptive_avg_pool2d(faces, (112, 112)))
        expected = (a @ b) / (a.norm() * b.norm())
        torch.testing.assert_close(arcface(x, y)[0], expected, **TOL[torch.float32])
        # pixels outside the crop do not count
        outside = x.clone()
        outside[:, :, :35] = outside[:, :, 223:] = outside[..., :32] = outside[..., 220:] = 0
        torch.testing.assert_close(arcface(outside, x), torch.ones(1), **TOL[torch.float32])
        torch.testing.assert_close(arcface.embed(outside)[0], a, **TOL[torch.float32])


def test_arcface_other_sizes(arcface):
    """Larger images are averaged to 256 px, smaller ones enlarged between pixel centres."""
    x, _ = pair(1, 64)
    with torch.no_grad():
        enlarged = F.interpolate(x, size=(256, 256), mode="bilinear", align_corners=False)
        face = arcface.embed(enlarged)
        torch.testing.assert_close(arcface.embed(x), face, **TOL[torch.float32])
        doubled = enlarged.repeat_interleave(2, 2).repeat_interleave(2, 3)
        torch.testing.assert_close(arcface.embed(doubled), face, **TOL[torch.float32])
        assert (arcface.embed(x.flip(3)) - face).abs().max() > 100 * TOL[torch.float32]["atol"]


def test_arcface_is_frozen_and_differentiable(arcface):
    arcface.train()
    assert not arcface.backbone.training
    x, y = pair(1, 64)
    x.requires_grad_()
    (1 - arcface(x, y)).mean().backward()
    assert torch.isfinite(x.grad).all() and x.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in arcface.parameters())


def test_arcface_file_errors(tmp_path):
    with pytest.raises(UserError, match="--arcface.*set the loss weight to 0"):
        ArcFace(tmp_path / "absent.pth")
    damaged = {"output_layer.3.weight": torch.zeros(512, 5), "output_layer.4.bias": torch.zeros(512)}
    torch.save(damaged, tmp_path / "damaged.pth")
    with pytest.raises(UserError, match=r"missing: input_layer.0.weight.* of another shape: .*\[512, 5\]"):
        ArcFace(tmp_path / "damaged.pth")


def test_arcface_takes_the_published_layout():
    listing = published.state_dict("ir_se50_arcface")
    with torch.device("meta"):
        state = {key: torch.empty(entry["shape"]) for key, entry in listing.items()}
        load_state(Backbone(), state, "ir_se50_arcface")
