"""Image losses that the stages share: weighting by region, and sums of weighted terms."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wagi.config import ImageLossConfig
from wagi.errors import UserError
from wagi.features import LPIPS, ArcFace, FeatureFiles
from wagi.haar import decompose
from wagi.losses import wavelet_loss
from wagi.standins.model import LOOKS, WHO, PortraitsFeatures, PortraitsID, load

Scalars = dict[str, Tensor]

_SHIFT = 16  # pixels, the stride of the trunk's last stage: it must not learn where the picture begins


class RegionWeights:
    """Per-pixel weights from region labels: what people look at counts more than backgrounds.

    Args:
        weights: one number per label; empty switches weighting off.
    """

    def __init__(self, weights: tuple[float, ...]) -> None:
        self.table = torch.tensor(weights) if weights else None

    def __call__(
        self, mask: Tensor | None
    ) -> Tensor | None:  # N,S,S labels => N,1,S,S, mean 1 over the batch
        if self.table is None or mask is None:
            return None
        weights = self.table.to(mask.device)[mask.long()][:, None]
        return weights / weights.mean()


class InterestRegion:
    """Images with everything else black (Moon and Park 2022, IntereStyle: all losses see both images so).

    Args:
        labels: region labels that stay; empty leaves images as they are.
    """

    def __init__(self, labels: tuple[int, ...]) -> None:
        self.labels = labels

    def __call__(self, images: Tensor, mask: Tensor | None) -> Tensor:  # N,3,R,R ; N,S,S => N,3,R,R
        if not self.labels:
            return images
        if mask is None:
            raise UserError("interest: the data have no region labels; use portraits or leave it empty", 2)
        inside = torch.isin(mask.long(), torch.tensor(self.labels, device=mask.device))[:, None].float()
        return images * F.avg_pool2d(inside, inside.shape[-1] // images.shape[-1])


def weighted_mean(errors: Tensor, weights: Tensor | None) -> Tensor:
    """Mean of errors [N, C, H, W] under weights [N, 1, kH, kW], which are averaged down to their size."""
    if weights is None:
        return errors.mean()
    if weights.shape[-1] != errors.shape[-1]:
        weights = F.avg_pool2d(weights, weights.shape[-1] // errors.shape[-1])
    return (errors * weights).mean()


def wavelet_l1(x: Tensor, y: Tensor, weights: Tensor | None, levels: int = 3) -> Tensor:
    """The wavelet loss of eq. (6) in L1, averaged over a level's bands: about as large as the L1 loss."""
    details = (level[:, level.shape[1] // 4 :] for level in decompose(x - y, levels))
    return torch.stack([weighted_mean(detail.abs(), weights) for detail in details]).sum()


class Looks(nn.Module):
    """Mean distance of portraits-features, both images [N, 3, S, S] shifted alike by a few random pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.network = load(PortraitsFeatures)

    def forward(self, y: Tensor, x: Tensor, rng: torch.Generator | None) -> Tensor:
        assert rng is not None
        shift = torch.randint(_SHIFT, (2,), generator=rng).tolist()
        return self.network(y.roll(shift, (2, 3)), x.roll(shift, (2, 3))).mean()


class ImageLoss(nn.Module):
    """lambda_l2 L2 + lambda_wave L_wave + lambda_lpips LPIPS + lambda_id (1 - identity)
    + lambda_looks `Looks`, in the stages that have it.

    Terms of weight 0 are left out. LPIPS and the identity network need public weight files;
    UserError names the option of a missing one. With `standins`, `Looks` and portraits-ID take their places,
    and their names in the logs.
    """

    def __init__(self, config: ImageLossConfig, files: FeatureFiles) -> None:
        super().__init__()
        self.config = config
        self.regions = RegionWeights(config.region_weights)
        self.interest = InterestRegion(getattr(config, "interest", ()))
        self.lpips: nn.Module | None = None
        self.arcface: nn.Module | None = None
        if config.lambda_lpips:
            self.lpips = Looks() if config.standins else LPIPS(files.lpips_trunk, files.lpips_linear)
        if config.lambda_id:
            self.arcface = load(PortraitsID) if config.standins else ArcFace(files.arcface)
        self.looks = Looks() if getattr(config, "lambda_looks", 0) else None

    def forward(
        self, y: Tensor, x: Tensor, mask: Tensor | None, rng: torch.Generator | None = None
    ) -> tuple[Tensor, Scalars]:
        """y, x [N, 3, R, R]; mask [N, S, S] labels or None => (loss, its terms before weighting).

        rng: a generator on the CPU, needed by `Looks`.
        """
        config = self.config
        y, x = (self.interest(image, mask) for image in (y, x))
        weights = self.regions(mask)
        terms: Scalars = {"l2": weighted_mean((y.float() - x).square(), weights)}
        if config.lambda_wave:
            terms["wave"] = wavelet_loss(y, x, norm=config.wave_norm, scale=config.haar_scale)
        if self.lpips is not None:
            terms["lpips"] = (self.lpips(y, x, rng) if config.standins else self.lpips(y, x)).mean()
        if self.arcface is not None:
            terms["id"] = (1 - self.arcface(y, x)).mean()
        if self.looks is not None:
            terms["looks"] = self.looks(y, x, rng)
        total = sum(getattr(config, f"lambda_{name}") * term for name, term in terms.items())
        assert isinstance(total, Tensor)
        names = {"lpips": LOOKS, "id": f"1 - {WHO}"} if config.standins else {}
        return total, {names.get(name, name): term for name, term in terms.items()}
