"""Pages of several stores in a real browser: Chromium, without a network."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import stores
from axe_playwright_python.sync_playwright import Axe
from factories import make_trial
from playwright.sync_api import Browser, Page, expect, sync_playwright

from dpbench.reporting import figure_specs
from dpbench.reporting.figure_specs import TimingFrames, TrialFrames

# of a store of one model, which has no frontiers of several
FIGURES = len(figure_specs.specs(TrialFrames)) + len(figure_specs.specs(TimingFrames)) - 1
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None and not os.environ.get("CI"), reason="no Chromium; .ci/run installs it"
)


def long_reason(root: Path) -> Path:
    """A failure whose reason is one long word."""
    root = stores.one_trial(root)
    stores.add(root, make_trial(seed=1), stores.failed(f"RuntimeError: {'/a-long-path' * 20}"))
    return root


def shuffled_and_without_noise(root: Path) -> Path:
    """Arms of which some have no finite epsilon."""
    root = stores.one_trial(root)
    for seed, epsilon in enumerate((float("inf"), 12.0, 3.0)):
        trial = make_trial(max_grad_norm=2.0 + seed, noise_multiplier=float(seed))
        stores.add(root, trial, stores.seen(1, 0.9, epsilon))
    return root


STORES = (
    long_reason,
    shuffled_and_without_noise,
    stores.full,
    stores.one_trial,
    stores.only_failures,
    stores.hostile,
    stores.timings_only,
)
LOOKS = ((360, "dark"), (1400, "light"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as driver:
        # as root, as in a container, Chromium has no sandbox
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def pages(
    tmp_path_factory: pytest.TempPathFactory,
    rendered: Callable[[Callable[[Path], Path]], Path],
) -> dict[str, str]:
    """The address of each store's page, copied to where it is the only file."""
    found = {}
    for make in STORES:
        attachment = tmp_path_factory.mktemp("mail") / "report.html"
        shutil.copy(rendered(make) / "report.html", attachment)
        found[make.__name__] = attachment.as_uri()
    return found


@pytest.fixture
def opened(browser: Browser, pages: dict[str, str]) -> Iterator[Callable[..., Page]]:
    """Opens a store's page; at the end, nothing was said on a console and nothing else loaded."""
    complaints: list[str] = []
    contexts = []

    def note(text: str) -> None:
        complaints.append(text)

    def open_page(name: str, width: int = 1400, scheme: str = "light", **more: bool) -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme="dark" if scheme == "dark" else "light",
            java_script_enabled=more.get("script", True),
            permissions=["clipboard-read", "clipboard-write"],
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: note(f"console: {message.text}"))
        page.on("pageerror", lambda error: note(f"error: {error}"))
        page.on(
            "request",
            lambda request: (
                None
                if request.url == pages[name] or request.url.startswith("data:")
                else note(f"request: {request.url}")
            ),
        )
        page.goto(pages[name])
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.mark.parametrize("make", STORES, ids=lambda make: make.__name__)
def test_it_opens_without_a_complaint_fits_and_is_accessible(
    make: Callable[[Path], Path], opened: Callable[..., Page]
) -> None:
    """In light and dark, with the chart drawn and everything unfolded."""
    for width, scheme in LOOKS:
        page = opened(make.__name__, width, scheme)
        page.evaluate("document.querySelectorAll('details').forEach(each => (each.open = true))")
        if page.locator("#chart").count():
            drawn_chart(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        broken = "[...document.images].filter(i => !i.complete || !i.naturalWidth).length"
        assert page.evaluate(broken) == 0
        assert page.title().endswith("dpbench")
        results = Axe().run(page)
        assert results.violations_count == 0, results.generate_report()


def drawn_chart(page: Page) -> None:
    """Scrolls to the Explore view, and waits for its chart."""
    page.locator("#explore").evaluate("each => each.scrollIntoView()")
    page.wait_for_selector("#chart canvas")


def test_axe_would_find_something(opened: Callable[..., Page]) -> None:
    page = opened("one_trial")
    page.evaluate("document.images[0].removeAttribute('alt')")
    found = Axe().run(page).response["violations"]
    assert "image-alt" in [violation["id"] for violation in found]


def column(page: Page, head: str) -> list[str]:
    """The texts of a column of the table of arms."""
    table = page.locator("#arms")
    heads = [text.strip() for text in table.locator("th").all_inner_texts()]
    index = heads.index(head)
    return table.locator(f"tbody tr:not([hidden]) td:nth-child({index + 1})").all_inner_texts()


def test_a_column_sorts_both_ways_by_mouse_and_by_keyboard(opened: Callable[..., Page]) -> None:
    page = opened("full")
    button = page.locator("#arms").get_by_role("button", name="noise_multiplier")
    button.click()
    rising = column(page, "noise_multiplier")
    numbers = [float(text) for text in rising if text]
    assert numbers == sorted(numbers)
    assert rising[-2:] == ["", ""]  # the non-private arms have none
    button.focus()
    page.keyboard.press("Enter")
    numbers = [float(text) for text in column(page, "noise_multiplier") if text]
    assert numbers == sorted(numbers, reverse=True)
    assert page.locator("th[aria-sort=descending]").count() == 1
    accuracy = page.locator("#arms").get_by_role("button", name="accuracy %")
    accuracy.click()
    percents = [float(text) for text in column(page, "accuracy %")]
    assert percents == sorted(percents)


def test_the_best_comes_first_and_an_infinite_epsilon_is_the_largest(
    opened: Callable[..., Page],
) -> None:
    page = opened("shuffled_and_without_noise")
    button = page.locator("#arms").get_by_role("button", name="epsilon")
    button.click()
    assert column(page, "epsilon") == ["2.000", "3.000", "12.000", "inf"]
    button.click()
    assert column(page, "epsilon") == ["inf", "12.000", "3.000", "2.000"]
    percents = [float(text) for text in column(opened("full"), "accuracy %")]
    assert percents == sorted(percents, reverse=True)


def visible(page: Page, name: str, table: str) -> bool:
    """Whether the column lies inside the table's box without scrolling."""
    inside = """(section, name) => {
      const box = section.querySelector(".scroll").getBoundingClientRect();
      const heads = [...section.querySelectorAll("th")].map(head => head.textContent);
      const cell = section.querySelector("tbody tr").cells[heads.indexOf(name)];
      const place = cell.getBoundingClientRect();
      return place.left >= box.left && place.right <= box.right;
    }"""
    section = page.locator(f"#table-{table}").locator("..").element_handle()
    return bool(page.evaluate(f"([section, name]) => ({inside})(section, name)", [section, name]))


@pytest.mark.parametrize("width", [360, 1400])
def test_accuracy_and_setting_are_seen_without_scrolling(
    width: int, opened: Callable[..., Page]
) -> None:
    page = opened("full", width)
    for name in ("accuracy %", "noise_multiplier", "max_grad_norm"):
        assert visible(page, name, "arms")
    page = opened("long_reason", width)
    assert visible(page, "status", "failures")
    assert visible(page, "reason", "failures") or width < 1400
    assert not visible(page, "epoch", "failures") or width >= 1400  # it can be false


def test_rows_are_filtered_by_numbers_and_words(opened: Callable[..., Page]) -> None:
    page = opened("full")
    box = page.locator("#table-arms ~ .filter input")
    box.fill("epsilon<3 max_grad_norm=0.5")
    assert set(column(page, "epsilon")) == {"0.900"}
    assert set(column(page, "max_grad_norm")) == {"0.5"}
    assert page.locator("#table-arms ~ .filter [role=status]").inner_text() == "2 of 14 rows"
    box.fill("non-private")
    assert set(column(page, "engine")) == {"non-private"}
    box.fill("nothing like it")
    assert column(page, "engine") == []
    page.locator("#answers a").first.click()  # what is linked to is shown
    assert len(column(page, "engine")) == 1


MARKER = """() => {  // where on the screen the only marker is, by its blue
  const canvas = document.querySelector("#chart canvas");
  const { data, width } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const blue = [];
  for (let at = 0; at < data.length; at += 4) {
    if (data[at + 2] - data[at] > 60 && data[at + 3] > 150) blue.push(at / 4);
  }
  const [x, y] = [0, 1].map((axis) => {
    const places = blue.map((at) => (axis ? Math.floor(at / width) : at % width));
    return places.reduce((sum, each) => sum + each, 0) / places.length;
  });
  const box = canvas.getBoundingClientRect();
  return [box.left + (x * box.width) / canvas.width, box.top + (y * box.height) / canvas.height];
}"""


def test_explore_shows_settings_filters_and_leads_to_rows(opened: Callable[..., Page]) -> None:
    page = opened("full")
    drawn_chart(page)
    said = page.locator("#drawn")
    expect(said).to_have_text("8 of 14 arms are drawn; 6 have no finite epsilon or accuracy %.")
    page.get_by_label("epsilon at most").fill("1")
    expect(said).to_contain_text("4 of 14 arms")
    page.get_by_label("batch_size", exact=True).select_option("128")
    page.get_by_label("max_grad_norm", exact=True).select_option("0.5")
    expect(said).to_contain_text("1 of 14 arms")
    page.get_by_label("x axis", exact=True).select_option(label="max_grad_norm")
    page.get_by_label("colour", exact=True).select_option(label="none")
    page.wait_for_timeout(500)
    page.mouse.move(*page.evaluate(MARKER))
    tooltip = page.locator("#vg-tooltip-element.visible")
    for cell in ("batch_size", "128", "max_grad_norm", "0.5", "noise_multiplier"):
        expect(tooltip).to_contain_text(cell)
    page.mouse.down()
    page.mouse.up()
    expect(page.locator("tr:target")).to_contain_text("0.900")


def test_explore_is_reached_and_read_by_keyboard(opened: Callable[..., Page]) -> None:
    page = opened("full")
    drawn_chart(page)
    page.get_by_label("log scale of x").focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "chart"
    pointed = page.locator("#pointed")
    expect(pointed).to_have_text("")
    page.keyboard.press("ArrowRight")
    expect(pointed).to_contain_text("Marker 1 of 8: ")
    expect(pointed).to_contain_text("epsilon 0.9")
    page.keyboard.press("End")
    expect(pointed).to_contain_text("Marker 8 of 8: ")
    page.keyboard.press("ArrowRight")  # there is no further one
    page.keyboard.press("ArrowLeft")
    expect(pointed).to_contain_text("Marker 7 of 8: ")
    expect(pointed).to_contain_text("epsilon 4")
    page.keyboard.press("Enter")
    expect(page.locator("tr:target")).to_contain_text("4.000")


def test_answers_are_copied(opened: Callable[..., Page]) -> None:
    page = opened("full")
    answer = page.locator(".answer").first
    for name, begins in (
        ("Copy as Opacus code", "import torch"),
        ("Copy as sweep file", "# epsilon 0.9"),
        ("Copy the privacy statement", "The model"),
    ):
        answer.get_by_role("button", name=name).click()
        expect(answer.get_by_role("button", name="Copied").first).to_be_visible()
        copied = page.evaluate("navigator.clipboard.readText()")
        assert copied.startswith(begins)
        expect(answer.get_by_role("button", name=name)).to_be_visible()
    answer.get_by_role("link").click()
    row = page.locator("tr:target")
    assert row.get_attribute("id") == page.url.split("#")[1]
    assert "0.900" in row.inner_text()


def test_what_is_cut_says_so(opened: Callable[..., Page]) -> None:
    cut = """[...document.querySelectorAll(".scroll, .card")].filter(box =>
      box.scrollWidth > box.clientWidth + 1 &&
      !(box.nextElementSibling?.checkVisibility())).length"""
    for script in (True, False):
        page = opened("full", 390, script=script)
        assert page.evaluate(cut) == 0
    assert opened("full", 390).locator(".hint:visible").count() > 0


def test_downloads_hold_the_rows(opened: Callable[..., Page], tmp_path: Path) -> None:
    page = opened("full")
    links = page.locator("a[download]")
    assert links.count() == FIGURES + 3  # figures and tables
    for name, columns in (("arms.csv", "dataset,"), ("privacy_accuracy.csv", "dataset,")):
        with page.expect_download() as download:
            page.locator(f'a[download="{name}"]').click()
        path = tmp_path / name
        download.value.save_as(path)
        assert download.value.suggested_filename == name
        assert path.read_text(encoding="utf-8").startswith(columns)


def test_hostile_texts_are_shown_and_not_run(opened: Callable[..., Page]) -> None:
    page = opened("hostile")
    assert page.title() != "run"
    assert page.locator("script").count() == 3  # the page's own
    assert stores.HOSTILE in page.locator("#table-failures").locator("..").inner_text()
    assert stores.HOSTILE in page.locator("#made ~ pre").first.inner_text()


def test_tab_reaches_links_figures_and_tables_in_reading_order(opened: Callable[..., Page]) -> None:
    page = opened("full")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    place = "[...document.querySelectorAll('*')].indexOf(document.activeElement)"
    places = [page.evaluate(place)]
    for _ in range(25):
        page.keyboard.press("Tab")
        places.append(page.evaluate(place))
    assert places == sorted(set(places))
    page.locator("a.skip").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#answer"


def test_without_script_everything_is_there(opened: Callable[..., Page]) -> None:
    page = opened("full", script=False)
    assert page.locator("table").count() == 4
    assert page.locator("figure img").count() == FIGURES
    assert page.locator("th button").count() == 0
    assert not page.locator("#explore").is_visible()
    assert page.get_by_text("Opacus code").first.is_visible()


def test_on_paper_no_table_and_no_figure_is_cut(opened: Callable[..., Page]) -> None:
    page = opened("full", 700)
    page.emulate_media(media="print")
    cut = "[...document.querySelectorAll('.scroll, .card')].filter(e => e.scrollWidth > innerWidth)"
    assert page.evaluate(f"{cut}.length") == 0
    assert page.pdf(format="A4").startswith(b"%PDF")
    # where a button stands in a head, Chromium does not repeat the heads on the next page
    assert page.evaluate("getComputedStyle(document.querySelector('th button')).display") == (
        "contents"
    )
