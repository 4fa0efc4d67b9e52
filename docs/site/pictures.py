"""Takes the tutorial's pictures of a report: `python docs/site/pictures.py REPORT FOLDER`, with Chromium installed.

`python docs/site/pictures.py --site build/site FOLDER` takes pictures of pages of the site, light and dark, to be
looked at.
"""

import argparse
import base64
import io
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.report.browser import Browser

WIDTHS = {"report": 860, "site": 1280}  # CSS pixels
MARGIN = 12
REPORT = {
    "summary": "#summary",
    "viewer": "#denoise figure.volume",
    "subjects": "#denoise figure:has(svg)",
}
PAGES = ("index", "quickstart", "tutorial", "wavelets", "medwvae.wavelets")


def take(driven: Browser, path: Path, selector: str | None = None) -> None:
    """Write what a selector finds, or the window, as a PNG of at most 256 colours."""
    clip = {}
    if selector is not None:
        box = driven.run(
            f"(() => {{const b = document.querySelector({selector!r}).getBoundingClientRect();"
            f"return {{x: b.x + scrollX - {MARGIN}, y: b.y + scrollY - {MARGIN},"
            f" width: b.width + 2 * {MARGIN}, height: b.height + 2 * {MARGIN}}}}})()"
        )
        clip = {"clip": box | {"scale": 1}, "captureBeyondViewport": True}
    data = base64.b64decode(driven.call("Page.captureScreenshot", **clip)["data"])
    picture = Image.open(io.BytesIO(data)).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, optimize=True)


def show(driven: Browser, path: Path, scheme: str, width: int) -> None:
    """Open a page in a light or a dark window."""
    driven.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
    driven.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    driven.open(path.resolve())


def of_report(driven: Browser, report: Path, folder: Path) -> None:
    """Take the tutorial's pictures."""
    show(driven, report, "light", WIDTHS["report"])
    driven.run("document.querySelectorAll('nav').forEach((bar) => { bar.hidden = true; bar.style.display = 'none' })")
    for name, selector in REPORT.items():
        driven.run(f"document.querySelector({selector!r}).scrollIntoView({{behavior: 'instant'}})")
        if name == "viewer":
            driven.run(
                f"new Promise((done) => {{const viewer = document.querySelector({selector!r});"
                "const look = () => { if (!viewer.dataset.ready) return setTimeout(look, 100);"
                "viewer.querySelector('input[value=error]').click(); const strength = viewer.querySelector('.opacity');"
                "strength.value = 50; strength.dispatchEvent(new Event('input', {bubbles: true}));"
                "setTimeout(done, 3000) }; look()})"
            )
        take(driven, folder / f"{name}.png", selector)


def of_site(driven: Browser, site: Path, folder: Path) -> None:
    """Take pictures of some pages, in both schemes."""
    for page in PAGES:
        for scheme in ("light", "dark"):
            show(driven, site / f"{page}.html", scheme, WIDTHS["site"])
            driven.run("new Promise((done) => setTimeout(done, 500))")
            take(driven, folder / f"{page.replace('/', '-')}-{scheme}.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("page", type=Path, help="report.html; with --site, the folder of the site")
    parser.add_argument("folder", type=Path, help="gets the pictures")
    parser.add_argument("--site", action="store_true", help="pictures of the site")
    given = parser.parse_args()
    with TemporaryDirectory() as profile:
        browser = Browser(Path(profile))
        try:
            (of_site if given.site else of_report)(browser, given.page, given.folder)
        finally:
            browser.close()
