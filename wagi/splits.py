"""Choices of pictures: text files of paths, and the official split of CelebA-HQ, from its public lists."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from wagi.errors import UserError

PREFIX = "celeba-hq:"
PARTS = {"train": "0", "val": "1", "test": "2"}  # as CelebA's list numbers them
PARTITION, MAPPING, IMAGES = "list_eval_partition.txt", "CelebA-HQ-to-CelebA-mapping.txt", "CelebA-HQ-img"
_SOURCE = "from CelebAMask-HQ, and CelebA's list_eval_partition.txt beside it"
_NAMED = 5  # missing files in one line


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that are not empty. UserError, status 2, for one that is none."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = "not a text file" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise UserError(f"{path}: cannot be read ({why})", 2) from None
    return [line.strip() for line in text.splitlines() if line.strip()]


def listed(path: Path, root: Path) -> list[Path]:
    """The pictures that a text file names, one per line, absolute or below `root`. UserError, status 2."""
    files = [root / line for line in read_lines(path)]
    if not files:
        raise UserError(f"{path}: names no picture; write one path per line", 2)
    if missing := [str(file) for file in files if not file.is_file()]:
        raise UserError(f"{path}: {shortened(missing)} not there (paths are absolute, or below {root})", 2)
    return files


def shortened(names: list[str]) -> str:
    """The first of many names, and how many more there are."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


class Split(NamedTuple):
    """Pictures of one part of CelebA-HQ in the order of their numbers, and the counts in words."""

    images: Path  # the folder
    files: list[Path]
    about: str


def celeba_hq(spec: str, suffixes: Iterable[str]) -> Split:
    """The pictures of `celeba-hq:FOLDER[:train|val|test]`, test unless told.

    FOLDER is CelebAMask-HQ unpacked, with CelebA-HQ-img/N.jpg (or N in another of `suffixes`, zeros in front
    or not) and CelebA-HQ-to-CelebA-mapping.txt, and has CelebA's list_eval_partition.txt besides. UserError,
    status 2, for anything else.
    """
    folder, _, part = spec.removeprefix(PREFIX).rpartition(":")
    if part not in PARTS:
        folder, part = spec.removeprefix(PREFIX), "test"
    root = Path(folder)
    if not (root / IMAGES).is_dir():
        how = f"write celeba-hq:FOLDER[:train|val|test], FOLDER {_SOURCE}"
        raise UserError(f"{spec}: no folder {root / IMAGES}; {how}", 2)
    numbers, total = _numbers(root, PARTS[part])
    kinds = set(suffixes)
    found = {
        int(file.stem): file
        for file in sorted((root / IMAGES).iterdir())
        if file.stem.isdecimal() and file.suffix.lower() in kinds
    }
    if found and 0 not in found and max(found) == total:
        raise UserError(f"{root / IMAGES}: numbered from 1; the lists are of pictures numbered from 0", 2)
    files = [found[number] for number in numbers if number in found]
    missing = [f"{number}.jpg" for number in numbers if number not in found]
    if not files:
        raise UserError(f"{spec}: none of the {len(numbers)} pictures of this part is in {root / IMAGES}", 2)
    about = f"CelebA-HQ, {part}: {len(numbers)} pictures by the official lists"
    about += f", {len(missing)} of them not there: {shortened(missing)}" if missing else ", all there"
    return Split(root / IMAGES, files, about)


def _numbers(root: Path, part: str) -> tuple[list[int], int]:
    """Numbers in CelebA-HQ whose original in CelebA belongs to the part, and how many there are in all."""
    parts = {}
    for number, line in enumerate(read_lines(root / PARTITION), 1):
        name, *rest = line.split()
        if len(rest) != 1 or rest[0] not in PARTS.values():
            raise UserError(f"{root / PARTITION}: line {number}: not a file name and 0, 1 or 2", 2)
        parts[name] = rest[0]
    numbers, lines = [], read_lines(root / MAPPING)[1:]  # under a heading
    for number, line in enumerate(lines, 2):
        words = line.split()
        if len(words) != 3 or not words[0].isdecimal() or words[2] not in parts:
            raise UserError(
                f"{root / MAPPING}: line {number}: not a number, a number and a file of {PARTITION}", 2
            )
        if parts[words[2]] == part:
            numbers.append(int(words[0]))
    return sorted(numbers), len(lines)
