"""The report in a real browser: nothing is fetched, the viewer works from the keyboard, axe finds nothing serious.

Screenshots and the print are written where MEDWVAE_SCREENSHOTS points, to be looked at. MEDWVAE_REPORT names the
report.html of a real run, to be held to the same.
"""

import dataclasses
import importlib.resources
import importlib.util
import os
import re
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medwvae.report import compare, compare_page
from medwvae.report.card import data_sheet, model_card
from medwvae.report.document import as_html
from medwvae.report.page import build
from medwvae.report.uncertainty import IntervalInputs
from medwvae.report.volumes import unpack
from tests.report import browser
from tests.report.test_card import card_inputs
from tests.report.test_compare import again
from tests.report.test_report import study
from tests.report.test_uncertainty import KNOWN, rows

pytestmark = pytest.mark.skipif(browser.FOUND is None, reason="no Chromium here (Debian: apt-get install chromium)")
HOSTILE = "<script>alert('x')</script>\n\u202egnol\u202c \U0001f9e0 " + "A" * 10_000
NAME = "<b>tv\" onclick='x'"  # of a method: it comes from the program, and would be drawn into a plot
VIEWER = "document.querySelector('figure.volume')"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page of two tasks; our method has intervals, and a map of their width, in the first."""
    folder = tmp_path_factory.mktemp("page")
    inputs = study(folder)
    maps = {}
    for volume, path in inputs.volumes["superres"]["wavelet_vae"].items():
        maps[volume] = folder / f"{volume}_uncertainty.nii.gz"
        image = nib.load(path)
        nib.save(nib.Nifti1Image(np.abs(image.get_fdata(dtype=np.float32)) / 20, image.affine), maps[volume])
    inputs = dataclasses.replace(
        inputs,
        metrics=rows(inputs.metrics),
        uncertainties={"superres": {"wavelet_vae": maps}},
        intervals={"superres": {"wavelet_vae": IntervalInputs(KNOWN, 16)}},
        provenance={"configuration": {"run": "demo"}, "versions": {"revision": "0"}},
    )
    path = folder / "report.html"
    path.write_text(build(inputs), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def driven(tmp_path_factory):
    one = browser.Browser(tmp_path_factory.mktemp("profile"))
    yield one
    one.close()


@pytest.fixture
def opened(driven, page):
    driven.call("Emulation.setEmulatedMedia", media="", features=[])
    driven.open(page)
    return driven


def wait(driven, condition):
    """Wait until an expression in the page is true."""
    end = time.monotonic() + browser.PATIENCE
    while not driven.run(condition):
        assert time.monotonic() < end, condition
        time.sleep(0.02)


def begin(driven):
    """Scroll to the first viewer and wait until it has drawn."""
    driven.run(f"{VIEWER}.scrollIntoView({{behavior: 'instant'}})")
    wait(driven, f"{VIEWER}.dataset.ready")
    settle(driven)


def settle(driven):
    """Wait until nothing is drawn any more."""
    counts = [None, driven.run(f"{VIEWER}.dataset.ready")]
    while counts[-1] != counts[-2]:
        driven.run("new Promise((done) => setTimeout(done, 120))")
        counts.append(driven.run(f"{VIEWER}.dataset.ready"))


def pictures(driven):
    return driven.run(f"[...{VIEWER}.querySelectorAll('canvas')].map((c) => c.toDataURL())")


def labels(driven):
    return driven.run(f"[...{VIEWER}.querySelectorAll('canvas')].map((c) => c.getAttribute('aria-label'))")


def found(pattern, text) -> tuple[str, ...]:
    match = re.search(pattern, text)
    assert match is not None, text
    return match.groups()


def focus(driven, selector):
    driven.run(f"{VIEWER}.querySelector({selector!r}).focus({{preventScroll: true}})")


def first_paint(driven):
    """Milliseconds from the request to the first thing that is seen."""
    wait(driven, "performance.getEntriesByName('first-contentful-paint').length > 0")
    return driven.run("performance.getEntriesByName('first-contentful-paint')[0].startTime")


def keep(driven, name):
    if folder := os.environ.get("MEDWVAE_SCREENSHOTS"):
        driven.screenshot(Path(folder) / f"{name}.png")


def complaints(driven):
    kinds = ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")
    return [event for event in driven.events if event["method"] in kinds]


def requests(driven):
    """Addresses that the page asked for, but for what it carries within itself."""
    asked = [e["params"]["request"]["url"] for e in driven.events if e["method"] == "Network.requestWillBeSent"]
    return [url for url in asked if not url.startswith(("data:", "blob:"))]


def test_it_opens_at_once_without_an_error_and_asks_for_nothing(opened, page):
    begin(opened)
    assert complaints(opened) == [] and requests(opened) == [page.as_uri()]
    paint = first_paint(opened)
    for _ in range(4):  # what else the machine does meanwhile makes it later, nothing makes it sooner
        if paint >= 2000:
            opened.open(page)
            paint = min(paint, first_paint(opened))
    assert 0 < paint < 2000
    assert opened.run("document.documentElement.scrollWidth <= innerWidth")
    assert opened.run("document.querySelectorAll('img:not([alt]), svg:not([aria-label])').length") == 0
    keep(opened, "viewer")


def test_slices_scroll_and_methods_switch_from_the_keyboard(opened):
    begin(opened)
    before, named = pictures(opened), labels(opened)
    assert len(set(before)) == 6 and named[0].startswith("Wavelet-VAE (ours), axial slice")
    focus(opened, "input[data-plane=axial]")
    opened.key("ArrowLeft", 37)
    settle(opened)
    after, moved = pictures(opened), labels(opened)
    at, to = (int(*found(r"slice (\d+)", name)) for name in (named[0], moved[0]))
    assert to == at - 1 and found(r"slice (\d+)", moved[3]) == (str(to),)  # both rows
    assert all(new != old for new, old in zip(after, before, strict=True))  # the crosshair is linked
    focus(opened, ".methods input:checked")
    opened.key("ArrowLeft", 37)
    settle(opened)
    assert labels(opened)[0].startswith("U-Net (MONAI), axial") and labels(opened)[3].startswith("Truth, axial")
    switched = pictures(opened)
    assert switched[:3] != after[:3] and switched[3:] == after[3:]
    assert complaints(opened) == []


def test_overlays_come_and_go(opened):
    begin(opened)
    plain = pictures(opened)
    focus(opened, "input[name$=overlay]")
    for overlay, unit in (("error", "absolute error"), ("uncertainty", "half-width of the interval")):
        opened.key("ArrowRight", 39)
        settle(opened)
        shown = pictures(opened)
        assert shown[0] != plain[0] and shown[3:] == plain[3:]  # the truth has no error
        assert f"with its {overlay}" in labels(opened)[0]
        assert unit in opened.run(f"{VIEWER}.querySelector('.legend').innerText")
        keep(opened, overlay)
    assert "uncertainty" in opened.run(f"{VIEWER}.querySelector('.readout').textContent")
    focus(opened, ".methods input:checked")
    opened.key("ArrowLeft", 37)
    settle(opened)
    assert labels(opened)[0].endswith("which has no map of uncertainty")
    assert opened.run(f"{VIEWER}.querySelector('.which').textContent").endswith("no map of uncertainty")
    opened.key("ArrowRight", 39)
    focus(opened, "input[name$=overlay]:checked")
    opened.key("ArrowRight", 39)
    settle(opened)
    assert pictures(opened) == plain and opened.run(f"{VIEWER}.querySelector('.legend').hidden")


def test_a_click_moves_the_crosshair_to_that_voxel_and_reads_it(opened, page):
    begin(opened)
    box = opened.run(
        f"(() => {{ const b = {VIEWER}.querySelector('canvas').getBoundingClientRect();"
        " return [b.left, b.top, b.width, b.height]; })()"
    )
    x, y = box[0] + 0.25 * box[2], box[1] + 0.35 * box[3]
    for kind in ("mousePressed", "mouseReleased"):
        opened.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)
    settle(opened)
    said = opened.run(f"{VIEWER}.querySelector('.readout').textContent")
    data = opened.run(f"({{...{VIEWER}.dataset}})")
    in_file = [int(k) - 1 for k in found(r"At voxel (\d+), (\d+), (\d+)", said)]
    at = [
        (k - begins) // int(data["factor"]) for k, begins in zip(in_file, map(int, data["origin"].split()), strict=True)
    ]
    shape = tuple(map(int, data["shape"].split()))
    assert abs(at[0] + 0.5 - 0.75 * shape[0]) <= 1 and abs(at[1] + 0.5 - 0.65 * shape[1]) <= 1
    packed = {
        key: opened.run(f"document.querySelector('[data-volume=' + {VIEWER}.id + '][data-key={key}]').textContent")
        for key in ("truth", "wavelet_vae")
    }
    truth, ours = (unpack(packed[key], shape) for key in packed)
    low, high = map(float, data["window"].split())
    step = (high - low) / (int(data["levels"]) - 1)
    for name, grey in (("Truth", truth), ("Wavelet-VAE (ours)", ours + truth)):
        value = float(found(rf"{re.escape(name)} (?:[≤≥] )?(\S+)", said)[0].replace("−", "-"))
        assert value == pytest.approx(low + float(grey[tuple(at)]) * step, rel=0.01)
    assert opened.run("document.activeElement.dataset.plane") == "axial"  # the arrow keys scroll it from now on


def serious(driven):
    """Return what axe calls serious or critical on the page that is open."""
    source = importlib.resources.files("axe_core_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    driven.run(source + ";0")
    violations = driven.run(
        "axe.run(document).then((r) => r.violations.map((v) => [v.impact, v.id, v.nodes.map((n) => n.html)]))"
    )
    return [entry for entry in violations if entry[0] in ("serious", "critical")]


needs_axe = pytest.mark.skipif(
    importlib.util.find_spec("axe_core_python") is None, reason="axe-core-python is not installed"
)


@needs_axe
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious(opened, theme):
    opened.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
    begin(opened)
    assert "How sure Wavelet-VAE (ours) is" in opened.run("document.body.innerText")
    opened.run("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    assert serious(opened) == []
    opened.run("scrollTo({top: 0, behavior: 'instant'})")
    keep(opened, theme)


@needs_axe
@pytest.mark.skipif("MEDWVAE_REPORT" not in os.environ, reason="MEDWVAE_REPORT names no report of a real run")
def test_the_report_of_a_real_run(driven):
    """Under 25 MB, first paint under two seconds; scrolls and switches; no complaint, no request, nothing serious."""
    path = Path(os.environ["MEDWVAE_REPORT"]).resolve()
    assert path.stat().st_size < 25e6
    driven.call("Emulation.setEmulatedMedia", media="", features=[])
    driven.open(path)
    assert 0 < first_paint(driven) < 2000
    begin(driven)
    seen, named = [pictures(driven)], [labels(driven)]
    driven.run(f"{VIEWER}.querySelector('input[value=error]').click()")
    settle(driven)
    for selector in ("input[data-plane=axial]", ".methods input:checked", "input[name$=overlay]:checked"):
        focus(driven, selector)
        driven.key("ArrowLeft", 37)  # of methods that is a rival: the truth, on the other side, has no error
        settle(driven)
        seen.append(pictures(driven))
        named.append(labels(driven))
        keep(driven, f"real-{len(seen)}")
        assert seen[-1] != seen[-2] and named[-1] != named[-2]
    assert complaints(driven) == [] and requests(driven) == [path.as_uri()]
    driven.run("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    assert serious(driven) == []


def test_a_phone_has_large_pictures_and_all_that_scrolls_is_in_reach(opened):
    """On a narrow window a plane is half as wide as it, its slider below, and the tab key reaches every wide table."""
    try:
        opened.call("Emulation.setDeviceMetricsOverride", width=390, height=844, deviceScaleFactor=1, mobile=True)
        begin(opened)
        boxes = opened.run(
            f"[...{VIEWER}.querySelectorAll('canvas, input[data-plane]')].map((c) => {{"
            " const b = c.getBoundingClientRect(); return [b.left, b.top, b.width]; })"
        )
        above, below, sliders = boxes[:3], boxes[3:6], boxes[6:]
        for one, other, slider in zip(above, below, sliders, strict=True):
            assert one[2] > 150 and one[0] < other[0] and one[1] == other[1] < slider[1]
        opened.run("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
        wide = "[...document.querySelectorAll('.scroll')].filter((s) => s.scrollWidth > s.clientWidth)"
        assert opened.run(f"{wide}.length") > 3
        wait(opened, f"{wide}.every((s) => s.tabIndex === 0 && s.getAttribute('aria-label'))")
        assert opened.run("document.documentElement.scrollWidth <= innerWidth")
        keep(opened, "phone")
    finally:
        opened.call("Emulation.clearDeviceMetricsOverride")


def test_signs_of_the_summary_follow_their_own_outcome(opened):
    """A metric that is ahead has the colour of that, also where the task as a whole is behind."""
    sign = "getComputedStyle(document.querySelector('.others .won .sign')).color"
    before = opened.run(sign)
    opened.run("document.querySelectorAll('.verdict.won').forEach((task) => { task.className = 'verdict behind'; })")
    assert opened.run(sign) == before


@pytest.mark.parametrize(("key", "code"), [("Enter", 13), (" ", 32)])
def test_a_picture_opens_flips_and_closes_from_the_keyboard(opened, key, code):
    shown = "document.querySelector('dialog img').alt"
    opened.run("document.querySelector('figure.panel img').focus()")
    opened.key(key, code)
    wait(opened, "document.querySelector('dialog').open")
    assert opened.run(shown).startswith("Input: ")
    opened.key("ArrowRight", 39)
    opened.key("ArrowDown", 40)
    wait(opened, f"{shown}.endsWith('enlarged detail') && !{shown}.startsWith('Input')")
    opened.key("Escape", 27)
    wait(opened, "!document.querySelector('dialog').open")
    assert complaints(opened) == []


def test_print_has_the_pictures_and_no_controls(opened, tmp_path):
    begin(opened)
    opened.call("Emulation.setEmulatedMedia", media="print")
    for hidden in (".volume", "nav", "dialog"):
        assert opened.run(f"getComputedStyle(document.querySelector('{hidden}')).display") == "none"
    assert opened.run("document.querySelector('figure.panel img').getBoundingClientRect().width") > 0
    opened.pdf(tmp_path / "report.pdf")
    data = (tmp_path / "report.pdf").read_bytes()
    assert data.startswith(b"%PDF") and len(data) > 20_000
    if folder := os.environ.get("MEDWVAE_SCREENSHOTS"):
        (Path(folder) / "print.pdf").write_bytes(data)


def test_hostile_text_is_text_in_the_browser(driven, tmp_path):
    """Whatever comes from data: a name that runs, that is long, that turns the writing, that breaks the line."""
    inputs = study(tmp_path)
    rename = {"sub-00": HOSTILE}
    rows = inputs.manifest.copy()
    rows.loc[rows["status"] != "ok", ["reason", "volume"]] = HOSTILE
    first = next(iter(inputs.truths))
    hostile = dataclasses.replace(
        inputs,
        title=HOSTILE,
        run=HOSTILE,
        metrics=inputs.metrics.replace({"subject": rename, "setting": {"mild": HOSTILE}, "method": {"tv": NAME}}),
        manifest=rows,
        subjects=inputs.subjects | {first: HOSTILE},
        volumes={t: {NAME if m == "tv" else m: v for m, v in of.items()} for t, of in inputs.volumes.items()},
        settings={"denoise": HOSTILE},
        protocols={HOSTILE: HOSTILE},
        provenance={"configuration": {HOSTILE: HOSTILE}, "versions": {"revision": HOSTILE}},
        figures_per_task=8,
    )
    path = tmp_path / "hostile.html"
    path.write_text(build(hostile), encoding="utf-8")
    driven.call("Emulation.setEmulatedMedia", media="", features=[])
    driven.open(path)
    begin(driven)
    focus(driven, ".methods input:checked")
    driven.run(f"{VIEWER}.querySelectorAll('.methods input').forEach((one) => one.click())")
    settle(driven)
    assert complaints(driven) == [] and requests(driven) == [path.as_uri()]
    assert driven.run("document.querySelectorAll('script:not([type])').length") == 2
    assert driven.run("document.body.innerText.includes(\"<script>alert('x')</script>\")")
    assert driven.run("document.documentElement.scrollWidth <= innerWidth")
    assert driven.run(r"!/[\u202a-\u202e\u2066-\u2069]/.test(document.documentElement.outerHTML)")
    keep(driven, "hostile")


def beside_the_report(folder, name="A study"):
    """Write the pages that go with a report, a comparison and the two cards; `name` is whatever comes from data."""
    given = card_inputs()
    metrics = given.study.metrics.assign(run=name, setting=name, task=given.study.metrics["task"] + name)
    metrics["subject"] = metrics["subject"].where(metrics["subject"] != "sub-00", name)
    runs = compare.named([metrics, again(metrics, -0.2), again(metrics.assign(protocol=name))])
    people = given.study.manifest.copy()
    people.loc[people["status"] != "ok", "reason"] = name
    study = dataclasses.replace(given.study, title=name, run=name, manifest=people)
    card = dataclasses.replace(given, study=study, intended_use=name, data_licence=name, data_source=name)
    pages = {
        "compare": compare_page.page(compare.compare(runs)),
        "model_card": as_html(model_card(card)),
        "data_sheet": as_html(data_sheet(card)),
    }
    for file, html in pages.items():
        (folder / f"{file}.html").write_text(html, encoding="utf-8")
    return [folder / f"{file}.html" for file in pages]


@needs_axe
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious_beside_the_report(driven, tmp_path, theme):
    driven.call("Emulation.setEmulatedMedia", media="", features=[{"name": "prefers-color-scheme", "value": theme}])
    for path in beside_the_report(tmp_path):
        driven.open(path)
        assert serious(driven) == [], path.name
        keep(driven, f"{path.stem}-{theme}")


def test_hostile_text_is_text_beside_the_report(driven, tmp_path):
    driven.call("Emulation.setEmulatedMedia", media="", features=[])
    for path in beside_the_report(tmp_path, HOSTILE):
        driven.open(path)
        assert complaints(driven) == [] and requests(driven) == [path.as_uri()]
        assert driven.run("document.querySelectorAll('script').length") == 0
        assert driven.run("document.body.innerText.includes(\"<script>alert('x')</script>\")"), path.name
        assert driven.run("document.documentElement.scrollWidth <= innerWidth"), path.name
        assert driven.run(r"!/[\u202a-\u202e\u2066-\u2069]/.test(document.documentElement.outerHTML)")
