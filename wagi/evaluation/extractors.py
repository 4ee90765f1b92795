"""The feature networks of a protocol: the user's public files, or the portraits' stand-ins."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from wagi.errors import UserError
from wagi.evaluation.protocols import MEASURES, Protocol
from wagi.features import LPIPS, ArcFace, FeatureFiles
from wagi.metrics import METRICS, Metric, applicable
from wagi.standins import model
from wagi_rt.files import file_sha256


class Extractors:
    """Everything that a protocol can measure with what is at hand.

    pairwise: metric -> (x, y) [N, 3, E, E] in [-1, 1] -> [N]. features: FID's name -> x -> [N, D].
    missing: metric -> why it is not measured. weights: metric -> {file: sha256}.
    """

    def __init__(
        self, protocol: Protocol, size: int, files: FeatureFiles, device: str | torch.device
    ) -> None:
        self.pairwise: dict[str, Metric] = {}
        self.features: dict[str, Callable[[Tensor], Tensor]] = {}
        self.missing: dict[str, str] = {}
        self.weights: dict[str, dict[str, str]] = {}
        self._files, self._device = files, torch.device(device)
        self._refuse_unused(protocol)
        for name in protocol.metrics:
            wanted = protocol.size_of(name, size)
            if wanted > size:
                self.missing[name] = f"needs a model of {wanted} px or more, this one has {size}"
            elif name in METRICS:
                self._add_pixels(name, wanted)
            else:
                self._add_network(name)

    def _refuse_unused(self, protocol: Protocol) -> None:
        uses = {"lpips_trunk": "lpips", "lpips_linear": "lpips", "arcface": "identity", "fid_network": "fid"}
        for field, metric in uses.items():
            if getattr(self._files, field) and metric not in protocol.metrics:
                option = f"--{field.replace('_', '-')}"
                raise UserError(f"{option}: protocol {protocol.name} does not use it; leave it out", 2)

    def _add_pixels(self, name: str, size: int) -> None:
        if name in applicable(size):
            self.pairwise[name] = METRICS[name]
        else:
            self.missing[name] = f"needs larger pictures than {size} px"

    def _add_network(self, name: str) -> None:
        files = self._files
        if name == "lpips" and (files.lpips_trunk or files.lpips_linear):
            for option, path in (("trunk", files.lpips_trunk), ("linear", files.lpips_linear)):
                if path is None:
                    raise UserError(f"--lpips-{option}: no file given; LPIPS needs both its files", 2)
            self.pairwise[name] = LPIPS(files.lpips_trunk, files.lpips_linear).to(self._device)
            self._used(name, files.lpips_trunk, files.lpips_linear)
        elif name == "identity" and files.arcface:
            self.pairwise[name] = ArcFace(files.arcface).to(self._device)
            self._used(name, files.arcface)
        elif name == "fid" and files.fid_network:
            self.features[name] = ScriptedFeatures(files.fid_network).to(self._device)
            self._used(name, files.fid_network)
        elif name.startswith("portraits-"):
            self._add_standin(name)
        else:
            self.missing[name] = f"needs {MEASURES[name].needs}"

    def _add_standin(self, name: str) -> None:
        if name == "portraits-ID":
            self.pairwise[name] = model.load(model.PortraitsID).to(self._device)
            self._used(name, model.WEIGHTS / model.PortraitsID.file)
            return
        looks = model.load(model.PortraitsFeatures).to(self._device)
        if name == "portraits-FID":
            self.features[name] = looks.pooled
        else:
            self.pairwise[name] = looks
        self._used(name, model.WEIGHTS / looks.file)

    def _used(self, name: str, *paths: Path | None) -> None:
        self.weights[name] = {path.name: file_sha256(path) for path in paths if path}


class ScriptedFeatures(nn.Module):
    """A TorchScript network for FID: images [N, 3, H, W] in [-1, 1] -> features [N, D].

    The network gets uint8 [N, 3, H, W], and `return_features=True` if it knows that argument: the interface
    of the Inception file `inception-2015-12-05.pt` that the StyleGAN2-ADA evaluation uses.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        if not path.is_file():
            raise UserError(f"--fid-network {path}: no such file", 2)
        try:
            self.network = torch.jit.load(str(path), map_location="cpu").eval()
            arguments = self.network.forward.schema.arguments
        except Exception as error:  # whatever a foreign file makes torch raise
            reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
            raise UserError(f"--fid-network {path}: not a TorchScript network ({reason})") from None
        self.path = path
        self.options = (
            {"return_features": True} if any(a.name == "return_features" for a in arguments) else {}
        )

    def forward(self, x: Tensor) -> Tensor:
        pixels = ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        try:
            features = self.network(pixels, **self.options)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1][:120]
            raise UserError(f"--fid-network {self.path}: does not take uint8 images ({reason})") from None
        if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != len(x):
            raise UserError(f"--fid-network {self.path}: must give [N, D] features")
        return features
