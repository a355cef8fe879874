"""The page that shows a scene, in a real browser."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.browser import WEBGL, Page, find_browser, open_browser, wait
from helpers.scenes import HEIGHT, RING, WIDTH, reef
from PIL import Image

from jointnet_cli.projection import Projection
from jointnet_cli.scene.scene import DepthScale, Layer, Scene
from jointnet_cli.scene.viewer.page import write_viewer

NASTY = 'a reef</script><script>window.hacked = 1</script><img src=x onerror="window.hacked = 2"> & {{data}} 海'
GROUND = (9, 11, 14)
"""Colour where nothing is, with the soft filling turned off."""
WINDOW = (360, 240)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("viewer")


@pytest.fixture(scope="module")
def browser(folder: Path) -> Iterator[Page]:
    program = find_browser()
    if program is None:
        pytest.skip("no Chromium is installed")
    with open_browser(program, folder / "browser", WEBGL) as page:
        yield page


@pytest.fixture(scope="module")
def loaded() -> dict[str, str]:
    """The text of the page that the browser shows."""
    return {}


@pytest.fixture
def show(browser: Page, folder: Path, loaded: dict[str, str]) -> Iterator[Callable[..., Page]]:
    """`show(scene, record=…, title=…)`: the page as it starts, and standing still."""

    def run(scene: Scene, title: str = "a reef", **settings: object) -> Page:
        file = folder / "page.html"
        write_viewer(file, scene, title=title, **settings)  # type: ignore[arg-type]
        browser.prefer(prefers_reduced_motion="reduce")
        browser.resize(*WINDOW)
        if loaded.get("text") == file.read_text():
            browser.evaluate("(reset(), settings(false), read(null), document.body.classList.remove('bare'))")
            return browser
        browser.open(file)
        browser.until("document.body.dataset.ready === 'yes'")
        loaded["text"] = file.read_text()
        return browser

    browser.faults.clear()
    browser.requests.clear()
    yield run
    assert browser.faults == []
    assert all(url.startswith(("file:", "data:", "blob:")) for url in browser.requests)


def pixels(page: Page) -> np.ndarray:
    """What the canvas shows, (h, w, 3) integers."""
    script = "(view.step(1, 0), stage.draw(), document.getElementById('view').toDataURL('image/png'))"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(page.evaluate(script).split(",")[1]))).convert("RGB"), int)


def moved(before: np.ndarray, after: np.ndarray) -> float:
    return float(np.abs(before - after).mean())


def readout(page: Page, x: float, y: float) -> str:
    page.evaluate("(read(null), document.body.classList.add('bare'))")
    page.mouse(("moved", x, y))
    page.until("!document.getElementById('readout').hidden")
    return page.evaluate("document.getElementById('readout').textContent.trim()")


def test_it_draws_turns_and_moves(show: Callable[..., Page]) -> None:
    page = show(reef())
    first = pixels(page)
    assert first.std() > 20
    page.press("ArrowRight")
    turned = pixels(page)
    assert moved(first, turned) > 5
    page.mouse(("moved", 180, 75), ("pressed", 180, 75), ("moved", 255, 75), ("released", 255, 75))
    assert page.evaluate("view.goal.yaw") < 0
    page.press("r")
    assert moved(first, pixels(page)) < 0.5
    for _ in range(20):
        page.press("d")
    assert page.evaluate("Math.hypot(view.goal.x, view.goal.y, view.goal.z)") == pytest.approx(1)
    assert page.evaluate("stage.reach") == pytest.approx(0.3 * 1.5, rel=0.01)
    assert moved(first, pixels(page)) > 3
    page.press("r")
    page.press("+")
    assert page.evaluate("view.goal.fov") == pytest.approx(0.9 * page.evaluate("view.home"))


def test_fingers_turn_and_move(show: Callable[..., Page]) -> None:
    page = show(reef())
    page.touch([(200, 120)], [(150, 120)], [(100, 120)])
    assert page.evaluate("view.goal.yaw") > 0.1
    page.press("r")
    page.touch([(200, 120), (260, 120)], [(180, 120), (280, 120)], [(150, 120), (310, 120)])
    assert page.evaluate("view.goal.z") < -0.1 and abs(page.evaluate("view.goal.x")) < 0.05
    page.press("r")
    page.touch([(200, 120), (260, 120)], [(160, 120), (220, 120)])
    assert page.evaluate("view.goal.x") > 0.1
    page.press("h")
    page.touch([(180, 150)])
    page.until("!document.getElementById('readout').hidden")


def test_from_its_own_viewpoint_nothing_is_missing(show: Callable[..., Page]) -> None:
    page = show(reef())
    page.evaluate("stage.set('fill', false)")
    page.evaluate("view.goal.fov = 40")
    assert (pixels(page) == GROUND).all(axis=-1).sum() == 0


@pytest.mark.parametrize("wrap", [True, False])
def test_the_seam_is_closed(show: Callable[..., Page], wrap: bool) -> None:
    page = show(reef(replace(RING, wrap=wrap)))
    page.evaluate("(stage.set('fill', false), Object.assign(view.goal, { yaw: Math.PI, fov: 40 }))")
    holes = (pixels(page) == GROUND).all(axis=-1)
    assert holes.any() != wrap


def test_surfaces_and_colours(show: Callable[..., Page]) -> None:
    page = show(reef())
    picture = pixels(page)
    seen = [picture]
    for key in ("2", "3", "c"):
        page.press("1")
        page.press("p")
        page.press(key)
        assert all(moved(pixels(page), other) > 5 for other in seen), key
        seen.append(pixels(page))
    depth, width = seen[-1], WINDOW[0]
    page.evaluate("document.querySelector('[data-surface=mesh]').click()")
    page.press("x")
    both = pixels(page)
    assert np.array_equal(both[:, : width // 2 - 1], depth[:, : width // 2 - 1])
    assert np.array_equal(both[:, width // 2 + 1 :], picture[:, width // 2 + 1 :])
    page.mouse(
        ("moved", 180, 120), ("pressed", 180, 120), ("moved", 135, 120), ("moved", 90, 120), ("released", 90, 120)
    )
    assert page.evaluate("state.wipe") == pytest.approx(0.25, abs=0.01)
    assert page.evaluate("document.querySelector('[data-colour=wipe]').ariaPressed") == "true"


def test_distances_are_read(show: Callable[..., Page]) -> None:
    page = show(reef())
    assert readout(page, 180, 130) == "1.50 m assumed scale"
    assert readout(page, 290, 150) == "4.00 m assumed scale"
    assert readout(page, 300, 45) == "sky"
    page.evaluate("Object.assign(view.goal, { x: 1, z: -.3 })")
    pixels(page)
    assert readout(page, 315, 165) == "4.00 m assumed scale"
    page = show(reef(scale=DepthScale(2.0, 0.125, "fitted")))
    assert readout(page, 180, 130) == "1.50 m"


def test_the_range_can_be_changed(show: Callable[..., Page]) -> None:
    page = show(reef())
    before = pixels(page)
    page.press("d")
    page.press("t")
    page.evaluate("document.getElementById('near').focus()")
    for _ in range(40):
        page.press("ArrowRight")
    near = page.evaluate("state.near")
    assert near > 1.1 and page.evaluate("view.goal.yaw") == 0
    disparity = (1 / 1.5 - 1 / 30) / (1 - 1 / 30)
    expected = 1 / ((1 / near - 1 / 30) * disparity + 1 / 30)
    page.evaluate("Object.assign(view.goal, { x: 0 })")
    assert moved(before, pixels(page)) < 1
    assert readout(page, 180, 100) == f"{expected:.2f} m range set by hand"


def test_what_the_front_hides_is_shown(show: Callable[..., Page]) -> None:
    scene = reef()
    green = np.broadcast_to(np.float32([0, 1, 0]), (HEIGHT, WIDTH, 3))
    shown = np.zeros((HEIGHT, WIDTH), bool)
    shown[HEIGHT // 4 :, WIDTH // 2 - 4 : WIDTH // 2 + 4] = True
    layered = replace(scene, behind=Layer(green, np.full((HEIGHT, WIDTH), 4, np.float32), shown))
    for place, expected in ((scene, False), (layered, True)):
        page = show(place)
        assert not is_green(pixels(page)).any()
        for _ in range(9):
            page.press("a")
        assert is_green(pixels(page)).any() == expected


def is_green(seen: np.ndarray) -> np.ndarray:
    return (seen[..., 1] > 240) & (seen[..., 0] < 20) & (seen[..., 2] < 20)


def test_every_control_is_reached_by_keys(show: Callable[..., Page]) -> None:
    page = show(reef())
    page.press("t")
    page.press("x")
    controls = "[...document.querySelectorAll('button, input, canvas')].filter(element => element.checkVisibility())"
    count = page.evaluate(f"{controls}.length")
    assert count > 15
    reached = []
    for _ in range(count):
        page.press("Tab")
        reached.append(page.evaluate(f"{controls}.indexOf(document.activeElement)"))
    assert reached == sorted(set(reached)) == list(range(count))
    assert page.evaluate(
        f"{controls}.every(element => element.ariaLabel || element.textContent.trim() || element.labels?.length)"
    )
    for opener, dialog in (("show-help", "help"), ("show-details", "details")):
        page.evaluate(f"document.getElementById('{opener}').click()")
        assert page.evaluate(f"document.getElementById('{dialog}').open")
        page.press("Escape")
        page.until("!document.querySelector('dialog[open]')")


def test_a_still_is_saved(show: Callable[..., Page], folder: Path) -> None:
    page = show(reef(), title="Ocean reef, 3")
    page.evaluate("stage.renderer.capabilities.maxTextureSize = 720")
    page.evaluate("document.getElementById('still').click()")
    file = folder / "browser/downloads/ocean-reef-3.png"
    wait(file.is_file, "a download")
    still = np.asarray(Image.open(file).convert("RGB").resize(WINDOW, Image.Resampling.BOX), int)
    assert Image.open(file).size == (720, 480)
    assert moved(still, pixels(page)) < 3


def test_text_of_any_kind_stays_text(show: Callable[..., Page]) -> None:
    page = show(reef(), title=NASTY, record={"prompt": NASTY, "settings": {"model": NASTY}})
    assert page.evaluate("[document.title, document.querySelector('h1').textContent]") == [NASTY, NASTY]
    assert NASTY in page.evaluate("[...document.querySelectorAll('#details dd')].map(value => value.textContent)")
    assert page.evaluate("typeof window.hacked") == "undefined"


def test_it_drifts_unless_motion_is_unwelcome(show: Callable[..., Page]) -> None:
    page = show(reef(), title="still")
    assert page.evaluate("[view.drifting, view.now.yaw]") == [False, 0]
    page.prefer(prefers_reduced_motion="no-preference")
    page.call("Page.reload")
    page.until("typeof view === 'object' && view.now.yaw > 0.01")
    page.press("ArrowLeft")
    assert page.evaluate("[view.drifting, document.getElementById('drift').ariaPressed]") == [False, "false"]


def test_it_fits_a_phone(show: Callable[..., Page]) -> None:
    page = show(reef(), title="a very long name " * 12)
    page.resize(360, 640, phone=True)
    page.press("t")
    outside = (
        "[...document.querySelectorAll('button, input:not(#wipe), h1, section')].filter(e => e.checkVisibility())"
        ".map(e => e.getBoundingClientRect()).filter(b => b.left < 0 || b.top < 0 || b.right > 360 || b.bottom > 640)"
    )
    assert page.evaluate(f"{outside}.length") == 0
    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_a_perspective_picture_is_seen_whole(show: Callable[..., Page]) -> None:
    page = show(reef(Projection("perspective", 60.0)))
    page.evaluate("stage.set('fill', false)")
    filled = ~(pixels(page) == GROUND).all(axis=-1)
    columns = np.flatnonzero(filled.any(axis=0))
    assert np.ptp(columns) > 0.97 * WINDOW[0]
    assert filled[:, WINDOW[0] // 2].sum() == pytest.approx(WINDOW[0] * HEIGHT / WIDTH, rel=0.05)


def test_without_webgl_the_flat_picture_is_shown(browser: Page, folder: Path, loaded: dict[str, str]) -> None:
    loaded.clear()
    file = folder / "flat.html"
    write_viewer(file, reef(), title="x")
    script = browser.call(
        "Page.addScriptToEvaluateOnNewDocument", source="HTMLCanvasElement.prototype.getContext = () => null"
    )
    browser.open(file)
    browser.until("!document.getElementById('message').hidden")
    browser.call("Page.removeScriptToEvaluateOnNewDocument", identifier=script["identifier"])
    assert "WebGL" in browser.evaluate("document.getElementById('message').textContent")
    assert browser.evaluate("document.getElementById('picture').checkVisibility()")
    assert browser.evaluate("document.getElementById('picture').naturalWidth") == WIDTH
