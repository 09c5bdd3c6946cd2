"""Take the pictures of docs/reports.md anew: `python docs/report_screenshots.py`, some minutes, with Chromium.

Everything on them is made for them, in a folder that is deleted again: three runs of the built-in stories, half a
minute each, and a sweep.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

IMAGES = Path(__file__).parent / "images"
SMALL = (
    "data.source=grammar?stories=20000&validation=300",
    "data.context=256",
    "train.batch_size=8",
    "train.eval_stories=100",
)
TRAIN = ("grammar-1m", *SMALL, "train.steps=240", "train.eval_every=30", "train.sample_every=80")
RUNS = {
    "first": (),
    "slow": ("optim.muon_lr=1e-3", "optim.lr=1e-4"),
    "deep": ("model.layers=8", "model.width=96", "model.heads=3"),
}
DATA = ("--data", "grammar?validation=400&seed=9")
SWEEP = ("grammar-1m", *SMALL, "train.steps=60", "model.layers=1,3", "optim.muon_lr=3e-3,1e-2,3e-2,1e-1")
SIZE = {"width": 1000, "height": 920}


def storylm(*words: str) -> None:
    """Run a command, in the working folder."""
    subprocess.run([sys.executable, "-P", "-m", "storylm", *words], check=True)


def make() -> dict[str, str]:
    """Make the pages in the working folder: by picture, the page and what it is scrolled to."""
    for name, changes in RUNS.items():
        storylm("train", *TRAIN, *changes, "--out", f"runs/{name}")
    runs = [f"runs/{name}" for name in RUNS]
    storylm("report", *runs, "--out", "report.html")
    storylm("leaderboard", *runs, "grammar-1m", *DATA, "--eyes", "grammar-1m", "--out", "board")
    storylm("sweep", *SWEEP, "--out", "layers-and-rates")
    storylm("inspect", "grammar-1m", "--out", "inspect.html")
    return {
        "report": "report.html",
        "leaderboard": "board/leaderboard.html",
        "sweep": "layers-and-rates/sweep.html",
        "inspect": "inspect.html",
    }


def take(pages: dict[str, str]) -> None:
    """Write the picture of the top of each page; one of them dark."""
    from playwright.sync_api import sync_playwright

    path = os.environ.get("STORYLM_CHROMIUM") or shutil.which("chromium")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for name, file in pages.items():
            page = browser.new_page(viewport=SIZE, color_scheme="dark" if name == "sweep" else "light")
            page.goto(Path(file).absolute().as_uri())
            page.screenshot(path=IMAGES / f"{name}.png")
        browser.close()


def main() -> None:
    """Make the pages, take the pictures, leave nothing else."""
    with tempfile.TemporaryDirectory(prefix="storylm-pictures-") as folder:
        os.environ["STORYLM_CACHE"] = f"{folder}/cache"
        os.chdir(folder)
        take(make())


if __name__ == "__main__":
    main()
