"""The report's page in a real browser, opened from disk: what one can point at, hide, choose, sort and print."""

import dataclasses
import itertools
import re

import made_up_sweeps as sweeps
import pytest

from tests.browser import watched_pages
from vitlab.analysis.page import write_page
from vitlab.analysis.sweep_comparison import compare_sweeps
from vitlab.analysis.task_result import analyze_task

pytestmark = pytest.mark.browser

HOSTILE = "</script><script>alert(1)</script>"
MODELS = {"vit": [0.39, 0.32, 0.26, 0.19, 0.11], "cnn": sweeps.CURVES["cnn"], HOSTILE: [0.5, 0.4, 0.35, 0.3, 0.28]}


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    plan = sweeps.make_plan(list(MODELS), task=HOSTILE)
    page = tmp_path_factory.mktemp("report") / "index.html"
    page.write_text(write_page([analyze_task(plan, sweeps.make_records(plan, MODELS))]), encoding="utf-8")
    return page.as_uri()


@pytest.fixture
def visit(browser, address):
    """Open the page, or another one."""
    with watched_pages(browser, "html[data-ready]", inline="blob:") as open_page:
        yield lambda fragment="", address=address, **options: open_page(address, fragment, **options)


def texts(page, selector):
    return page.locator(selector).all_text_contents()


def center(page, selector, number):
    box = page.locator(selector).nth(number).bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def test_pointing_at_a_mark_shows_its_values_and_leaving_hides_them(visit):
    page = visit()
    page.mouse.move(*center(page, "svg .m0 .mark", 4))
    page.locator(".tip").filter(has_text="ViT, 8,000 images: ").wait_for()
    lines = texts(page, ".tip > div")
    assert re.fullmatch(r"95.% interval \d+\.\d.% to \d+\.\d.%", lines[1])
    assert re.fullmatch(r"4 seeds: (\d+\.\d, ){3}\d+\.\d", lines[2])
    assert lines[3] == "learning rate 0.003"
    page.mouse.move(5, 5)
    page.locator(".tip").wait_for(state="hidden")


def test_a_click_hides_a_model_in_the_chart_and_a_link_keeps_it_hidden(visit):
    page = visit()
    button = page.get_by_role("button", name="CNN", exact=True)
    assert button.get_attribute("aria-pressed") == "true"
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    assert page.locator("svg .m1").count() == 0
    assert page.locator("svg .m0 .mark").count() == 5
    assert page.locator("svg .cross").count() == 0
    again = visit("#" + page.url.partition("#")[2])
    assert again.locator("svg .m1").count() == 0
    button.click()
    assert page.locator("svg .m1 .mark").count() == 5
    assert "#" not in page.url


def test_a_log_axis_and_another_quantity_move_marks_and_ticks(visit):
    page = visit()
    before, marks = texts(page, "svg .tick"), center(page, "svg .m0 .mark", 2)
    page.get_by_label("log values").check()
    logarithmic = texts(page, "svg .tick")
    assert "0" in before
    assert "0" not in logarithmic
    assert center(page, "svg .m0 .mark", 2)[1] != pytest.approx(marks[1], abs=3)
    page.get_by_label("log", exact=True).uncheck()
    assert center(page, "svg .m0 .mark", 2)[0] < marks[0] - 50
    page.get_by_label("across:").select_option("seconds")
    assert texts(page, "svg .axis")[-1] == "seconds of training"
    page.mouse.move(*center(page, "svg .m0 .mark", 4))
    page.locator(".tip").filter(has_text="seconds of training").wait_for()
    assert visit("#" + page.url.partition("#")[2]).get_by_label("across:").input_value() == "seconds"


def test_every_axis_draws_every_model(visit):
    page = visit()
    axis = page.get_by_label("across:")
    values = axis.locator("option").evaluate_all("(options) => options.map((option) => option.value)")
    assert values == ["images", "examples", "macs", "seconds", "params"]
    for value in values:
        axis.select_option(value)
        assert page.locator("svg .mark").count() == (3 if value == "params" else 15)
        assert "NaN" not in page.locator("svg").first.inner_html()


def test_nll_and_calibration_error_can_be_shown_in_place_of_the_error(visit):
    page = visit()
    target = page.get_by_label("show:")
    assert target.locator("option").all_text_contents() == ["test error", "test NLL", "calibration error"]
    target.select_option("nll")
    assert texts(page, "svg .axis")[0] == "test NLL, nats"
    assert page.locator("svg .mark").count() == 15
    assert page.locator("svg .fit").count() == 3
    assert page.locator("svg .cross").count() == 0  # crossovers are those of the error
    page.mouse.move(*center(page, "svg .m0 .mark", 4))
    page.locator(".tip").filter(has_text="ViT, 8,000 images: NLL 0.").wait_for()
    target.select_option("calibration_error")
    assert page.locator("svg .fit").count() == page.locator("svg .beyond").count() == 0
    assert "NaN" not in page.locator("svg").first.inner_html()
    assert visit("#" + page.url.partition("#")[2]).get_by_label("show:").input_value() == "calibration_error"


def test_the_extrapolation_can_be_switched_on_and_is_only_on_the_axis_of_images(visit):
    page = visit()
    assert page.locator("svg .beyond").count() == 0
    page.get_by_label("extrapolation").check()
    assert page.locator("svg .beyond").count() == page.locator("svg .beyond-band").count() == 3
    assert visit("#" + page.url.partition("#")[2]).locator("svg .beyond").count() == 3
    assert "24,000" in texts(page, "svg .tick")
    page.get_by_label("across:").select_option("macs")
    assert page.locator("svg .beyond").count() == 0
    page.get_by_label("across:").select_option("images")
    page.get_by_label("extrapolation").uncheck()
    assert page.locator("svg .beyond").count() == 0
    assert "24,000" not in texts(page, "svg .tick")


def test_arrow_keys_read_the_points_out(visit):
    page = visit()
    page.locator("svg[data-chart]").focus()
    page.keyboard.press("ArrowRight")
    page.locator("#live").filter(has_text="ViT, 100 images").wait_for(state="attached")
    page.keyboard.press("ArrowRight")
    page.locator("#live").filter(has_text="ViT, 250 images").wait_for(state="attached")
    page.keyboard.press("ArrowDown")
    page.locator("#live").filter(has_text="CNN, 250 images").wait_for(state="attached")
    page.keyboard.press("Escape")
    page.locator(".tip").wait_for(state="hidden")


def test_a_table_sorts_by_number_both_ways_and_back(visit):
    page = visit()
    table = page.locator("table", has_text="Selected trials: mean over seeds")
    rows = table.locator("tbody tr")
    first_order = rows.all_inner_texts()
    heads = [head.strip() for head in table.locator("thead th").all_inner_texts()]

    def column(name):
        back = heads.index(name) - len(heads)  # from the right: rows of one model share their first cell
        cells = rows.evaluate_all(f"(rows) => rows.map((row) => row.cells[row.cells.length + {back}].textContent)")
        return [float(re.sub(r"[^\d.]", "", cell)) for cell in cells]

    button = table.get_by_role("button", name="Test error")
    button.focus()
    page.keyboard.press("Enter")
    assert column("Test error") == sorted(column("Test error"))
    assert table.locator("th[aria-sort=ascending]").count() == 1
    assert all("ViT" in text or "CNN" in text or "script" in text for text in rows.all_inner_texts())
    button.click()
    assert column("Test error") == sorted(column("Test error"), reverse=True)
    button.click()
    assert rows.all_inner_texts() == first_order
    assert table.locator("th[aria-sort]").count() == 0
    table.get_by_role("button", name="Images").click()
    assert column("Images") == sorted(column("Images"))
    table.get_by_role("button", name="Learning rate").click()
    assert table.locator("th[aria-sort]").count() == 1


@pytest.mark.parametrize("width", [320, 360])
def test_a_phone_needs_no_scrolling_sideways(visit, width):
    page = visit(viewport={"width": width, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.locator("svg .m0 .mark").nth(4).scroll_into_view_if_needed()
    page.mouse.move(*center(page, "svg .m0 .mark", 4))
    page.locator(".tip").wait_for()
    tip = page.locator(".tip").bounding_box()
    assert tip["x"] >= 0
    assert tip["x"] + tip["width"] <= width


def test_dark_is_dark_and_paper_is_white_with_everything_open_and_no_controls(visit):
    page = visit(color_scheme="dark")
    ground = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(ground) == "rgb(20, 23, 27)"
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate(ground) == "rgb(255, 255, 255)"
    assert not page.locator(".controls").is_visible()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details:not([open])").count() > 0
    assert len(page.pdf()) > 10_000


def test_no_table_is_wider_than_the_paper_and_one_column_holds_all(visit):
    page = visit(viewport={"width": 680, "height": 900})  # A4 upright, less its margins
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("document.documentElement.scrollWidth") == 680
    page.set_viewport_size({"width": 1100, "height": 900})
    chart, box = page.locator("figure").first.bounding_box(), page.locator(".fairness").bounding_box()
    assert box["y"] > chart["y"] + chart["height"]


def test_a_tap_shows_values_until_the_next_tap(visit):
    page = visit(viewport={"width": 360, "height": 700}, has_touch=True, is_mobile=True)
    page.locator("svg .m0 .mark").nth(4).scroll_into_view_if_needed()
    page.touchscreen.tap(*center(page, "svg .m0 .mark", 4))
    page.locator(".tip").filter(has_text="ViT, 8,000 images: ").wait_for()
    page.touchscreen.tap(*center(page, "svg .axis", 1))
    page.locator(".tip").wait_for(state="hidden")


@pytest.mark.parametrize("error", [0.0, 0.004])
def test_lines_that_end_at_or_near_no_error_are_drawn_and_their_names_stand_apart(visit, tmp_path, error):
    models = ("vit", "cnn", "third", "fourth")
    plan = sweeps.make_plan(models)
    curves = {model: [0.3 if error else 0.0, error, error, error, error] for model in models}
    (tmp_path / "index.html").write_text(
        write_page([analyze_task(plan, sweeps.make_records(plan, curves, noise=0.0))]), encoding="utf-8"
    )
    page = visit(address=(tmp_path / "index.html").as_uri())
    for name in ("log values", "log"):
        assert "NaN" not in page.locator("svg").first.inner_html()
        heights = page.locator("svg .name").evaluate_all(
            "(names) => names.map((name) => Number(name.getAttribute('y')))"
        )
        assert len(heights) == 4
        assert min(below - above for above, below in itertools.pairwise(heights)) >= 15
        page.get_by_label(name, exact=True).click()


def test_the_most_frequent_class_has_a_line_on_the_axis_of_errors_alone(visit, tmp_path):
    plan = sweeps.make_plan(train_sizes=sweeps.TWO_SIZES)
    result = analyze_task(plan, sweeps.make_records(plan, sweeps.AT_TWO_SIZES))
    result = dataclasses.replace(result, most_frequent_class_error=0.43)
    (tmp_path / "index.html").write_text(write_page([result]), encoding="utf-8")
    page = visit(address=(tmp_path / "index.html").as_uri())
    line = page.locator("svg .one-class")
    height = float(line.get_attribute("y1"))
    marks = page.locator("svg .seed").evaluate_all("(all) => all.map((one) => Number(one.getAttribute('cy')))")
    assert 32 < height < min(marks)  # no model errs as often, and the axis reaches above the line
    assert "most frequent class" in texts(page, "svg .axis")
    page.get_by_label("show:").select_option("nll")
    assert line.count() == 0
    assert "most frequent class" not in texts(page, "svg .axis")


def test_names_with_numbers_in_them_sort_as_names(visit, tmp_path):
    names = ["resnet50", "vit-2", "resnet101"]
    plan = sweeps.make_plan(names, [100, 1000], num_seeds=2)
    records = sweeps.make_records(plan, {name: [0.3, 0.2] for name in names})
    (tmp_path / "index.html").write_text(write_page([analyze_task(plan, records)]), encoding="utf-8")
    page = visit(address=(tmp_path / "index.html").as_uri())
    table = page.locator("table", has_text="Selected trials: mean over seeds")
    table.get_by_role("button", name="Model").click()
    heads = table.locator("tbody tr").evaluate_all("(rows) => rows.map((row) => row.cells[0].textContent)")
    assert heads == [name for name in ("resnet50", "resnet101", "vit-2") for _ in range(2)]


def test_a_chart_is_saved_with_its_colors_and_its_ground(visit):
    page = visit()
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as SVG").click()
    assert download.value.suggested_filename.endswith(".svg")
    saved = download.value.path().read_text(encoding="utf-8")
    assert "rgb(0, 104, 168)" in saved
    assert re.search(r'class="ground"[^>]*fill: rgb\(255, 255, 255\)', saved)
    assert re.search(r'class="fit"[^>]*stroke-linecap: round', saved)  # else the dots have no extent
    assert "<script>alert" not in saved


def test_two_sweeps_stand_in_one_chart_with_both_crossovers(visit, tmp_path):
    earlier = {**sweeps.CURVES, "vit": [0.35, 0.26, 0.20, 0.14, 0.08]}
    long_name = "a_sweep_whose_folder_has_a_rather_long_name_indeed"
    first, second = sweeps.made_up("old"), sweeps.made_up(long_name, earlier, seed=1)
    file = tmp_path / "index.html"
    file.write_text(write_page([first.result, second.result], [compare_sweeps(first, second)]), encoding="utf-8")
    page = visit(address=file.as_uri(), viewport={"width": 360, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert page.locator("svg .cross").count() == 2
    assert len(texts(page, "svg .note")) == 2
    names = texts(page, "svg .name")
    assert len(set(names)) == len(names) == 4  # cut, and still told apart
    page.get_by_role("button", name=f"ViT @ {long_name}").click()
    assert page.locator("svg .mark").count() == 15
    assert page.locator("svg .cross").count() == 0


def test_without_scripts_the_page_is_whole(visit, browser, address):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    assert page.locator("svg .mark").count() == 15
    assert not page.locator(".controls").is_visible()
    context.close()


@pytest.mark.slow
def test_a_report_of_five_thousand_trials_is_small_and_whole(visit, tmp_path):
    models, sizes = ("vit", "cnn", "third", "fourth"), [100 * 2**power for power in range(10)]
    rates = {model: [0.0001, 0.001, 0.003, 0.01, 0.03] for model in models}
    plan = sweeps.make_plan(models, sizes, num_seeds=25, learning_rates=rates)
    curves = {model: [0.05 * place + 0.5 * size**-0.2 for size in sizes] for place, model in enumerate(models)}
    records = [
        record | {"history": [[step, 9 / step] for step in range(1, 51)]}
        for record in sweeps.make_records(plan, curves)
    ]
    assert len(records) == 5_000
    file = tmp_path / "index.html"
    file.write_text(write_page([analyze_task(plan, records)]), encoding="utf-8")
    assert file.stat().st_size < 6e6
    page = visit(address=file.as_uri())
    assert page.locator("svg .mark").count() == 40
    assert page.locator("svg .seed").count() == 1000
