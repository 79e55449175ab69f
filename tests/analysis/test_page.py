import dataclasses
import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import made_up_sweeps as sweeps
import pytest

from vitlab.analysis.page import write_page
from vitlab.analysis.page_tables import text
from vitlab.analysis.task_result import analyze_task, conclude_pair
from vitlab.analysis.wording import sentence

HOSTILE = '<script>alert("1")</script>'
NUM_SCRIPTS = 4  # the page's own: one of numbers, three of code
SVG_NAMESPACE = "http://www.w3.org/2000/svg"  # a name, not an address that is asked
VOID = {"meta", "br", "link", "img"}


class _Reader(HTMLParser):
    """Collects tags and checks that they nest."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.addresses = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "srcset", "action")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def _result(**settings):
    plan = sweeps.make_plan(**settings)
    curves = sweeps.CURVES | {HOSTILE: [0.5, 0.4, 0.35, 0.3, 0.28]}
    return analyze_task(
        plan, sweeps.make_records(plan, curves, fails=lambda t: t.learning_rate == 0.01 and t.seed == 0)
    )


def _dial_result(name="window", task="window-dial", windows=(3, 7)):
    arms = {f"{name}{window}": [None, window] for window in windows} | {"all": [None, 15]}
    plan = sweeps.make_plan(list(arms), task=task, dial={"label": f"{name} (tokens)", "arms": arms})
    curves = {model: sweeps.CURVES["cnn" if model != "all" else "vit"] for model in arms}
    return analyze_task(plan, sweeps.make_records(plan, curves))


def _read(page: str) -> _Reader:
    reader = _Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


@pytest.mark.parametrize("num_tasks", [1, 3])
def test_the_page_is_one_file_that_fetches_nothing(num_tasks):
    page = write_page([_result(task=f"task-{number}") for number in range(num_tasks)])
    reader = _read(page)
    assert reader.addresses == []
    assert not {"link", "img", "iframe"} & set(reader.tags)
    assert reader.tags.count("script") == NUM_SCRIPTS
    assert "http:" not in page.replace(SVG_NAMESPACE, "")
    assert "https:" not in page
    assert "url(" not in page
    assert reader.tags.count("svg") == num_tasks


def test_published_curves_are_on_the_page_only_where_they_are_asked_for():
    result = _result()
    assert "Published curves" not in write_page([result])
    page = write_page([result], has_reference=True)
    assert _read(page).tags.count("svg") == 2
    assert "data-chart=" in page.partition("Published curves")[0]
    assert "https:" not in page


def test_what_records_lack_is_said_below_the_chart():
    plan = sweeps.make_plan(num_seeds=2)
    records = [
        record | {"test": record["test"] and {"accuracy": record["test"]["accuracy"]}}
        for record in sweeps.make_records(plan)
    ]
    page = write_page([analyze_task(plan, records)])
    assert "Test NLL was not recorded by these trials. Calibration error was not recorded by these trials." in page
    assert "not recorded" not in write_page([_result()]).partition("<script")[0]


def test_an_extrapolation_is_not_drawn_before_it_is_asked_for_and_is_explained():
    page = write_page([_result()])
    chart = ElementTree.fromstring(re.search(r"<svg.*?</svg>", page, re.DOTALL).group())
    assert "beyond" not in [path.get("class") for path in chart.iter("path")]
    assert not any(tick.text == "24,000" for tick in chart.iter("text"))
    assert "Extrapolation, where switched on: dashed" in page


def test_names_from_the_sweep_cannot_become_markup():
    page = write_page([_result(models=["vit", HOSTILE], task=HOSTILE)])
    assert _read(page).tags.count("script") == NUM_SCRIPTS
    assert "&lt;script&gt;" in page
    assert HOSTILE not in page
    numbers = json.loads(re.search(r'<script type="application/json" id="chart-data">(.*?)</script>', page).group(1))
    assert numbers["charts"][0]["task"] == HOSTILE


def test_charts_are_well_formed_and_described_in_words():
    page = write_page([_result()])
    chart = ElementTree.fromstring(re.search(r"<svg.*?</svg>", page, re.DOTALL).group())
    assert chart.get("role") == "img"
    assert chart.find("desc").text.startswith("The CNN leads up to about")
    titles = [title.text for title in chart.iter("title")]
    assert sum("learning rate 0.003" in title for title in titles) == 10


def test_every_plotted_trial_has_its_command_line():
    result = _result()
    page = write_page([result])
    assert page.count("<pre>vitlab fit ") == len(result.selected) == 40


def test_every_table_has_a_caption_and_heads_with_a_scope():
    page = write_page([_result()])
    assert page.count("<caption>") == page.count("<table>") > 4
    assert page.count("<th ") == page.count("<th scope=")


def test_a_dial_leads_with_its_own_chart_and_keeps_the_learning_curves():
    page = write_page([_dial_result()])
    assert "<title>window (tokens): test error by number of training images</title>" in page
    charts = [ElementTree.fromstring(chart) for chart in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]
    titles = [chart.find("title").text for chart in charts]
    assert titles == [
        "Test error against window (tokens): window-dial",
        "Test error against training images: window-dial",
    ]
    assert len({chart.get("aria-labelledby") for chart in charts}) == 2
    assert page.index("Ring: lowest mean") < page.index("The dial, on the seeds that all arms share")
    assert page.count("<caption>") == page.count("<table>")


def test_many_settings_of_a_dial_have_all_their_sentences_and_one_table_of_differences():
    result = _dial_result(windows=(3, 5, 7, 9))
    page = write_page([result])
    assert len(result.pairs) == 4
    for pair in result.pairs:
        assert text(sentence(conclude_pair(pair).words)) in page
    assert '<details class="pair">' not in page
    assert "at each size, on the same seeds" not in page


def test_names_on_a_dial_cannot_become_markup():
    reader = _read(write_page([_dial_result(HOSTILE, HOSTILE), _result()]))
    assert reader.tags.count("script") == NUM_SCRIPTS
    assert reader.tags.count("svg") == 3


def test_text_is_legible_in_light_and_dark():
    page = write_page([_result()])
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL).group(1)
    for block in re.findall(r":root\{([^}]*)\}", style):
        colors = dict(re.findall(r"--([a-z0-9]+):(#[0-9a-f]{6})", block))
        for name in ("ink", "soft", "refuse", "warn", "note", "m0", "m1", "m2", "m3", "m4", "m5"):
            for ground in ("page", "card"):
                assert _contrast(colors[name], colors[ground]) >= 4.5, (name, ground)


def _contrast(one: str, other: str) -> float:
    """WCAG 2.2, contrast ratio."""

    def luminance(color: str) -> float:
        channels = [int(color[index : index + 2], 16) / 255 for index in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted([luminance(one), luminance(other)])
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize(
    ("error", "is_drawn"),
    [(None, False), (0.362, True), (0.30, True), (0.43, True), (0.46, False), (0.9, False)],
)
def test_the_most_frequent_class_has_a_line_only_where_a_model_comes_near_it(error, is_drawn):
    plan = sweeps.make_plan(train_sizes=sweeps.TWO_SIZES)
    result = analyze_task(plan, sweeps.make_records(plan, sweeps.AT_TWO_SIZES, noise=0.0))
    assert max(point.mean_error for point in result.points) == pytest.approx(0.39)
    drawing = write_page([dataclasses.replace(result, most_frequent_class_error=error)]).partition("<svg")[2]
    drawing, _, rest = drawing.partition("</svg>")
    assert (">most frequent class</text>" in drawing) == is_drawn
    assert f'"one_class":{error if is_drawn else "null"}' in rest.replace(" ", "")
    top = max(float(tick) for tick in re.findall(r'text-anchor="end">(\d+)</text>', drawing))
    assert top == (40 if not is_drawn or error < 0.4 else 50)  # an easy task's axis is as long as without the line
