"""Take the pictures of docs/playground.md anew: `python docs/screenshots.py`, with Playwright and Chromium.

The page uses the reader's own typefaces. Pictures look as they do with Charis SIL and Inter installed.
"""

import sys
from pathlib import Path
from urllib.parse import urlencode

sys.path.append(str(Path(__file__).parents[1] / "tests"))  # where pytest finds these, and a script does not

from serve.playground import browser_path
from serve.process import Server

IMAGES = Path(__file__).parent / "images"
STORY = {"prompt": "Once upon a time, there was a", "seed": 7, "max_tokens": 400, "told": 1}  # to its end
# What is open on each, how large it is, and where the pointer clicks.
PICTURES = {
    "playground-light": ({"view": "likelihood"}, "light", (1280, 880), ".word:nth-child(12) .ink"),
    "playground-dark": ({"view": "attention"}, "dark", (1280, 880), ".word:nth-child(67) .ink"),
    "playground-phone": ({"mode": "choose"}, "light", (360, 740), ".offer"),
}


def take(url: str) -> None:
    """Write the pictures of the server at `url`."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=browser_path(), args=["--no-sandbox"])
        for name, (settings, scheme, (width, height), place) in PICTURES.items():
            page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
            page.goto(f"{url}/#{urlencode({**STORY, **settings})}")
            page.locator(place).first.click()
            page.wait_for_timeout(1500)
            if width < 400:
                page.evaluate("document.querySelector('.story').scrollIntoView(); scrollBy(0, -140)")
                page.mouse.move(0, 0)
                page.evaluate("document.activeElement.blur()")
            page.screenshot(path=IMAGES / f"{name}.png")
        browser.close()


def main() -> None:
    """Start a server, take the pictures, end it."""
    with Server("grammar-1m") as server:
        take(server.url)


if __name__ == "__main__":
    main()
