"""The attention page in a real browser, opened from disk."""

import struct

import numpy as np
import pytest
import torch

from tests.browser import watched_pages
from vitlab.attention import Grid
from vitlab.inspection import LayerInfo
from vitlab.inspection.drawing import pictures_of
from vitlab.inspection.page import page_of
from vitlab.inspection.page_data import ModelView

pytestmark = pytest.mark.browser

HOSTILE = "</script><script>alert(1)</script>.png"
GRID = Grid(3, 5, 2)
FIRST = "section.panel:nth-of-type(1)"
SECOND = "section.panel:nth-of-type(2)"


def looks_at(offset, share):
    """Weights of tokens that look so many patches to the right (the last ones at the first), the rest at the class."""
    weights = torch.zeros(GRID.num_tokens, GRID.num_tokens)
    patches = torch.arange(GRID.num_patches)
    weights[2 + patches, 2 + (patches + offset) % GRID.num_patches] = share
    weights[2:, 0] = 1 - share
    weights[0, 2:5], weights[0, 1] = torch.tensor([0.5, 0.2, 0.1]), 0.2
    weights[1, 1] = 1.0
    return weights


def make_page():
    layers = [LayerInfo(f"blocks.{index}", 2, GRID) for index in range(2)]
    first = torch.stack([looks_at(0, 0.9), looks_at(1, 0.74)])
    second = torch.stack([looks_at(5, 0.6), torch.full((17, 17), 1 / 17)])
    weights = [torch.stack([layer, layer.flip(0)]) for layer in (first, second)]  # picture 2: heads the other way round
    rolled = torch.stack([looks_at(2, 0.8), looks_at(4, 0.5)]).expand(2, -1, -1, -1)
    names = ["class token", "register 1"]
    vit = ModelView("vit", layers, weights, rolled, names, logits=torch.tensor([[0.0, 9.0], [9.0, 0.0]]))
    cam = np.zeros((2, 6, 10), dtype=np.float32)
    cam[:, 3, 4] = 2.0
    cnn = ModelView("cnn", maps={"Grad-CAM": cam})
    pictures = pictures_of(torch.rand(2, 3, 30, 50, generator=torch.Generator().manual_seed(0)))
    return page_of([vit, cnn], pictures, [HOSTILE, "second.png"], ["cat", "dog"])


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    return make_page().save(tmp_path_factory.mktemp("page") / "page.html").as_uri()


@pytest.fixture
def visit(browser, address):
    """Open the page, or another one."""
    with watched_pages(browser, "html[data-drawn]") as open_page:
        yield lambda fragment="", at=address, **options: open_page(at, fragment, **options)


def says(page, words, panel=FIRST):
    """Wait until a panel says this of what is seen; the picture's text alternative is the same."""
    page.locator(f"{panel} .says").filter(has_text=words).wait_for()
    said = page.locator(f"{panel} .says").inner_text()
    assert page.locator(f"{panel} .stage canvas").get_attribute("aria-label") == said
    return said.replace("\u00a0", " ")


def point(page, row, column, panel=FIRST, rows=3, columns=5):
    """Where a patch lies on the stage, as a position inside it."""
    box = page.locator(f"{panel} .stage").bounding_box()
    return {"x": (column - 0.5) / columns * box["width"], "y": (row - 0.5) / rows * box["height"]}


def colors(page, panel=FIRST):
    """The heat's pixels, (rows, columns, 4)."""
    script = """(canvas) => [canvas.height, canvas.width,
        ...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data]"""
    rows, columns, *values = page.locator(f"{panel} .stage canvas").evaluate(script)
    return np.array(values).reshape(rows, columns, 4)


def brightest(page, panel=FIRST):
    row, column = np.unravel_index(colors(page, panel)[..., :3].sum(axis=-1).argmax(), colors(page, panel).shape[:2])
    return row + 1, column + 1


VIEW = "#model1=attention.1.2&query=r1c1"


def test_hovering_shows_where_a_patch_looks_and_leaving_returns_to_the_kept_one(visit):
    page = visit(VIEW)
    says(page, "Patch row 1, column 1 looks mostly at row 1, column 2 (74 %).")
    page.hover(f"{FIRST} .stage", position=point(page, 2, 3))
    said = says(page, "Patch row 2, column 3 looks mostly at row 2, column 4 (74 %).")
    assert "0 % on itself, 26 % on the class token, 0 % on register 1." in said
    assert "Mean distance 10 px." in said
    assert brightest(page) == (2, 4)
    page.mouse.move(1, 1)
    says(page, "Patch row 1, column 1")


def test_a_click_keeps_the_patch_and_the_link_brings_it_back(visit):
    page = visit(VIEW)
    page.click(f"{FIRST} .stage", position=point(page, 3, 2))
    page.mouse.move(1, 1)
    said = says(page, "Patch row 3, column 2 looks mostly at row 3, column 3")
    page.wait_for_url("**query=r3c2**")
    assert page.locator(".tools a").get_attribute("href") == "#" + page.url.partition("#")[2]
    again = visit("#" + page.url.partition("#")[2])
    assert says(again, "Patch row 3, column 2") == said
    assert np.array_equal(colors(again), colors(page))
    assert again.url == page.url


def test_the_link_says_what_became_of_it(visit):
    page = visit(VIEW)
    page.locator(".tools a").click()
    page.locator(".tools a").filter(has_text="Link copied").or_(
        page.get_by_text("The link is in the address bar")
    ).wait_for()
    assert "query=r1c1" in page.url


def test_everything_in_a_link_is_restored(visit):
    fragment = "#image=2&query=t1&model1=rollout.2.1&model2=map1.0.mean&see=1&scale=same&heat=40&colors=dark"
    page = visit(fragment)
    says(page, "Rollout through layer 2. The class token looks mostly at row 1, column 1 (50 %)")
    assert page.locator(f"{FIRST} select").first.input_value() == "rollout"
    assert page.locator(f"{FIRST} output").inner_text() == "2 of 2"
    assert page.locator(SECOND).is_hidden()
    assert page.locator(".picture").inner_text() == "Picture: second.png"
    assert page.locator("html").get_attribute("data-theme") == "dark"
    assert page.locator(f"{FIRST} .stage canvas").evaluate("canvas => canvas.style.opacity") == "0.4"
    assert page.get_by_role("button", name="Same scale").get_attribute("aria-pressed") == "true"


@pytest.mark.parametrize(
    "fragment", ["#nonsense", "#image=9&query=r9c9&model1=map7.9.9&see=5", "#query=t3&heat=-1&image=%"]
)
def test_a_link_that_names_nothing_shows_the_page_as_it_opens(visit, fragment):
    says(visit(fragment), "Patch row 2, column 3")


def test_keys_move_patch_layer_head_token_and_view(visit):
    page = visit(VIEW)
    page.focus(f"{FIRST} .stage")
    steps = [
        ("ArrowRight", "Patch row 1, column 2 looks mostly at row 1, column 3 (74 %)"),
        ("ArrowDown", "Patch row 2, column 2 looks mostly at row 2, column 3 (74 %)"),
        ("ArrowLeft", "Patch row 2, column 1 looks mostly at row 2, column 2 (74 %)"),
        ("ArrowLeft", "Patch row 2, column 1 looks"),
        ("ArrowUp", "Patch row 1, column 1 looks"),
        (",", "looks mostly at row 1, column 1 (90 %, itself)"),
        ("]", "looks mostly at row 2, column 1 (60 %)"),
        ("[", "looks mostly at row 1, column 1 (90 %, itself)"),
        (".", "looks mostly at row 1, column 2 (74 %)"),
        ("m", "looks mostly at row 1, column 1 (45 %, itself) and row 1, column 2 (37 %)"),
        ("t", "The class token looks mostly at row 1, column 1 (50 %)"),
        ("t", "Register 1 looks mostly at no patch. 0 % on the class token, 100 % on itself."),
        ("t", "Patch row 1, column 1 looks"),
        ("v", "Rollout through layer 1. Patch row 1, column 1 looks mostly at row 1, column 3 (80 %)"),
        ("v", "Patch row 1, column 1 looks mostly at row 1, column 1 (45 %, itself)"),
    ]
    for key, words in steps:
        page.keyboard.press(key)
        says(page, words)
    page.keyboard.press("n")
    page.locator(".picture").filter(has_text="second.png").wait_for()
    assert "says: cat 100\u00a0%" in page.locator(f"{FIRST} .head").inner_text()


def test_letter_keys_can_be_switched_off(visit):
    page = visit(VIEW)
    page.get_by_text("Keys", exact=True).click()
    page.get_by_role("button", name="Letter keys").click()
    page.keyboard.press("c")
    page.focus(f"{FIRST} .stage")
    page.keyboard.press("ArrowDown")
    says(page, "Patch row 2, column 1")
    assert page.locator(SECOND).is_visible()


def test_the_focus_is_seen(visit):
    page = visit(VIEW)
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.className") == "stage":
            break
    style = page.evaluate(
        "(({outlineStyle, outlineWidth}) => [outlineStyle, outlineWidth])(getComputedStyle(document.activeElement))"
    )
    assert page.evaluate("document.activeElement.className") == "stage"
    assert style == ["solid", "3px"]


def test_two_models_follow_the_same_patch_and_one_can_be_hidden(visit):
    page = visit(VIEW)
    page.hover(f"{SECOND} .stage", position=point(page, 2, 3, SECOND))
    says(page, "Patch row 2, column 3 looks mostly at row 2, column 4")
    said = says(page, "Here, at row 4, column 6: 0.", SECOND)
    assert said.startswith("Grad-CAM: largest at row 4, column 5 of 6 rows and 10 columns.")
    assert brightest(page, SECOND) == (4, 5)
    page.keyboard.press("c")
    page.locator(SECOND).wait_for(state="hidden")
    page.keyboard.press("x")
    page.locator(FIRST).wait_for(state="hidden")
    assert page.locator(SECOND).is_visible()
    page.get_by_role("button", name="Compare").click()
    page.locator(FIRST).wait_for()
    assert page.locator(".panels.two").count() == 1


def test_every_head_of_every_layer_has_a_tile_that_chooses_it(visit):
    page = visit("#model1=attention.1.1&query=r2c2")
    tiles = page.locator(f"{FIRST} .tiles button:visible")
    assert tiles.count() == 4
    tile = page.get_by_role("button", name="layer 2, head 1: most, 60\u00a0% on row 3, column 2")
    tile.click()
    says(page, "Patch row 2, column 2 looks mostly at row 3, column 2 (60 %)")
    assert tile.get_attribute("aria-pressed") == "true"
    assert page.locator(f"{FIRST} .tiles [aria-pressed=true]").count() == 1


def test_the_scale_has_a_unit_and_can_be_the_same_for_all_heads(visit):
    page = visit("#model1=attention.2.1&query=r2c2")
    ticks = page.locator(f"{FIRST} .bar p")
    assert ticks.inner_text().split("\n") == ["0", "share of attention, %", "60"]
    page.get_by_role("button", name="Same scale").click()
    ticks.filter(has_text="one scale for all heads").wait_for()
    assert ticks.inner_text().split("\n")[-1] == "90"
    own = colors(page)
    page.keyboard.press("s")
    ticks.filter(has_text="60").wait_for()
    assert colors(page)[2, 1].sum() > own[2, 1].sum()


def test_choices_by_mouse_do_what_the_keys_do(visit):
    page = visit(VIEW)
    page.locator(f"{FIRST} select").nth(1).select_option("1")
    says(page, "looks mostly at row 1, column 1 (90 %, itself)")
    page.locator(f"{FIRST} input[type=range]").fill("2")
    says(page, "looks mostly at row 2, column 1 (60 %)")
    page.get_by_role("button", name="class token: gets 40\u00a0%").click()
    says(page, "The class token looks mostly at")
    page.get_by_role("button", name="second.png").click()
    page.locator(".picture").filter(has_text="second.png").wait_for()


def test_a_name_that_holds_a_script_is_shown_as_a_name(visit):
    page = visit()
    assert page.locator(".picture").inner_text() == f"Picture: {HOSTILE}"
    assert page.locator("script:not([type])").count() == 4


def test_dark_follows_the_system_until_the_reader_chooses(visit):
    ground = "getComputedStyle(document.body).backgroundColor"
    dark, light = "rgb(20, 23, 27)", "rgb(251, 251, 250)"
    for system, colors_seen in (("light", [light, dark, light, light]), ("dark", [dark, dark, light, dark])):
        page = visit(color_scheme=system)
        seen = [page.evaluate(ground)]
        for words in ("Colors: dark", "Colors: light", "Colors: as the system"):
            page.keyboard.press("d")
            page.get_by_role("button", name=words).wait_for()
            seen.append(page.evaluate(ground))
        assert seen == colors_seen


@pytest.mark.parametrize("width", [320, 360])
def test_a_phone_shows_it_without_scrolling_sideways_and_a_tap_chooses(visit, width):
    page = visit(VIEW, viewport={"width": width, "height": 740}, has_touch=True, is_mobile=True)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    box = page.locator(f"{FIRST} .stage").bounding_box()
    assert box["width"] > 0.85 * width
    page.tap(f"{FIRST} .stage", position=point(page, 3, 4))
    says(page, "Patch row 3, column 4 looks mostly at row 3, column 5")
    page.wait_for_url("**query=r3c4**")
    texts = page.locator("main p, main label, main button")
    sizes = texts.evaluate_all("(found) => found.map((one) => parseFloat(getComputedStyle(one).fontSize))")
    assert min(sizes) >= 11


def test_the_picture_keeps_its_shape(visit):
    box = visit().locator(f"{FIRST} .stage").bounding_box()
    assert box["width"] / box["height"] == pytest.approx(50 / 30, rel=0.01)


def test_a_notebooks_frame_shows_the_same(browser, tmp_path):
    outer = tmp_path / "notebook.html"
    outer.write_text(f"<!doctype html><p>a cell</p>{make_page()._repr_html_()}", encoding="utf-8")
    page = browser.new_page()
    page.goto(outer.as_uri())
    frame = page.frame_locator("iframe")
    frame.locator(f"{FIRST} .says").filter(has_text="Patch row 2, column 3 looks mostly at").wait_for()
    frame.locator(f"{FIRST} .stage").click(position={"x": 2, "y": 2})
    frame.locator(f"{FIRST} .says").filter(has_text="Patch row 1, column 1 looks mostly at").wait_for()
    assert frame.locator(".tools a").is_hidden()
    assert page.url == outer.as_uri()
    page.close()


def test_a_screenshot_shows_heat_over_the_picture(visit, tmp_path):
    page = visit(VIEW)
    path = tmp_path / "stage.png"
    page.locator(f"{FIRST} .stage").screenshot(path=path)
    width, height = struct.unpack(">II", path.read_bytes()[16:24])
    from PIL import Image

    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    looked_at = pixels[height // 6, int(width * 0.3)]  # row 1, column 2
    elsewhere = pixels[height * 5 // 6, int(width * 0.9)]
    assert looked_at.sum() > elsewhere.sum() + 200
