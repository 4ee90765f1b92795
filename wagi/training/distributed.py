"""The use of torch.distributed: join the group that torchrun announces, and average tensors."""

import os
from collections.abc import Iterable

import torch
from torch import Tensor
from torch import distributed as dist


def start(device: str) -> tuple[int, int, torch.device]:
    """Join torchrun's group if there is one => (rank, world size, this process's device)."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return 0, 1, torch.device(device)
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if device == "cuda":
        torch.cuda.set_device(local)
    dist.init_process_group("nccl" if device == "cuda" else "gloo")
    return dist.get_rank(), world, torch.device("cuda", local) if device == "cuda" else torch.device(device)


def average(tensors: Iterable[Tensor], world: int) -> None:
    """Replace each tensor by its mean over the processes, in one exchange."""
    found = list(tensors)
    if world == 1 or not found:
        return
    flat = torch.cat([t.detach().reshape(-1).float() for t in found])
    dist.all_reduce(flat)
    flat /= world
    for tensor, part in zip(found, flat.split([t.numel() for t in found]), strict=True):
        tensor.detach().copy_(part.view_as(tensor))


def any_of(flag: bool, world: int, device: torch.device) -> bool:
    """True when the flag is set in at least one process."""
    if world == 1:
        return flag
    vote = torch.tensor(float(flag), device=device)
    dist.all_reduce(vote)
    return bool(vote.item())


def barrier(world: int) -> None:
    if world > 1:
        dist.barrier()


def stop(world: int) -> None:
    if world > 1 and dist.is_initialized():
        dist.destroy_process_group()
