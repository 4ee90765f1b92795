"""Contents of the checkout: the files git would commit. Used by the tests about the project itself."""

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SKIPPED = {"__pycache__", "build", "dist", "demo-output"}


def files(*suffixes: str) -> list[Path]:
    """Paths relative to the checkout, tracked or new but not ignored; all, or those with these suffixes."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True,
    ) if (ROOT / ".git").exists() and shutil.which("git") else None
    if listing is not None and listing.returncode == 0:
        found = [Path(name) for name in listing.stdout.split("\0") if name]
    else:  # an unpacked archive: everything but hidden folders and what builds and commands leave
        found = [path.relative_to(ROOT) for path in ROOT.rglob("*")]
        found = [p for p in found if not any(
            part in SKIPPED or (part.startswith(".") and part != ".ci") for part in p.parts[:-1]
        )]
    return sorted(p for p in set(found) if (ROOT / p).is_file() and (not suffixes or p.suffix in suffixes))


def copy_to(target: Path) -> Path:
    """A copy of the checkout without its history, environments and outputs."""
    for path in files():
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, target / path)
    return target
