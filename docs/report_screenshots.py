"""Take the pictures of docs/reports.md anew: `python docs/report_screenshots.py [NAME...]`, with Chromium.

Report and leaderboard are those of docs/equal-time; what an inspection and a sweep of the built-in stories show is made
for it in a folder that is deleted again, which takes some minutes.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

DOCS = Path(__file__).parent
SWEEP = (
    "grammar-1m",
    "data.source=grammar?stories=20000&validation=300",
    "data.context=256",
    "train.batch_size=8",
    "train.eval_stories=100",
    "train.steps=60",
    "model.layers=1,3",
    "optim.muon_lr=3e-3,1e-2,3e-2,1e-1",
)
PAGES = {
    "report": (DOCS / "equal-time/report.html", ()),
    "leaderboard": (DOCS / "equal-time/leaderboard.html", ()),
    "sweep": (Path("layers-and-rates/sweep.html"), ("sweep", *SWEEP, "--out", "layers-and-rates")),
    "inspect": (Path("inspect.html"), ("inspect", "grammar-1m", "--out", "inspect.html")),
}
"""Each page, and the command that makes it, if it is not there."""
SIZE = {"width": 1000, "height": 920}


def take(names: list[str]) -> None:
    """Write the picture of the top of each page; one of them dark."""
    from playwright.sync_api import sync_playwright

    path = os.environ.get("STORYLM_CHROMIUM") or shutil.which("chromium")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for name in names:
            file, command = PAGES[name]
            if command:
                subprocess.run([sys.executable, "-P", "-m", "storylm", *command], check=True)
            page = browser.new_page(viewport=SIZE, color_scheme="dark" if name == "sweep" else "light")
            page.goto(file.absolute().as_uri())
            page.screenshot(path=DOCS / "images" / f"{name}.png")
        browser.close()


def main() -> None:
    """Make what is to be made, take the pictures, leave nothing else."""
    if unknown := set(sys.argv[1:]) - set(PAGES):
        sys.exit(f"no page {min(unknown)}: there are {', '.join(PAGES)}")
    with tempfile.TemporaryDirectory(prefix="storylm-pictures-") as folder:
        os.chdir(folder)
        os.environ["STORYLM_CACHE"] = f"{folder}/cache"
        take(sys.argv[1:] or list(PAGES))


if __name__ == "__main__":
    main()
