"use strict";
// The Explore view: the rows of the table of arms as a chart that controls filter.
function explore(table) {
  const make = (name, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  };
  const value = (text, numeric) => (numeric ? (text === "inf" ? Infinity : parseFloat(text)) : text);
  const columns = [...table.tHead.rows[0].cells].map((head, index) => ({
    index,
    name: head.textContent,
    numeric: head.classList.contains("number"),
  }));
  const rows = [...table.tBodies[0].rows].map((row) => {
    const cells = columns.map(({ index }) => row.cells[index].textContent);
    return { id: row.id, cells, values: columns.map((c) => value(cells[c.index], c.numeric)) };
  });
  const levels = columns.map(({ index }) => [...new Set(rows.map((row) => row.cells[index]))]);
  for (const { index, numeric } of columns) {
    levels[index].sort((a, b) => (numeric ? value(a, true) - value(b, true) : a.localeCompare(b)));
  }
  const by = (name) => columns.findIndex((column) => column.name === name);
  document.querySelectorAll("[data-scripted]").forEach((each) => (each.hidden = false));

  // Controls
  const form = document.getElementById("controls");
  const select = (label, options, chosen) => {
    const made = make("select", {}, ...options.map(([text, key]) => new Option(text, key)));
    made.value = String(chosen);
    made.id = `explore-${form.elements.length}`;
    form.append(make("span", {}, make("label", { htmlFor: made.id }, label), " ", made));
    return made;
  };
  const numbers = columns.filter((c) => c.numeric && levels[c.index].some((t) => t !== ""));
  const choices = numbers.map((c) => [c.name, c.index]);
  const start = by("epsilon") >= 0 ? by("epsilon") : numbers[0].index;
  const x = select("x axis", choices, start);
  const y = select("y axis", choices, by("accuracy %"));
  const coloured = columns.filter((c) => levels[c.index].length > 1 && levels[c.index].length <= 10);
  const first = ["batch_size", "noise_multiplier"].map(by).find((i) => coloured.some((c) => c.index === i));
  const colour = select("colour", [["none", -1], ...coloured.map((c) => [c.name, c.index])], first ?? -1);

  const epsilon = by("epsilon");
  const finite = epsilon < 0 ? [] : rows.map((row) => row.values[epsilon]).filter((v) => v > 0 && v < Infinity);
  let most = null;
  if (finite.length) {
    const [low, high] = [Math.min(...finite), Math.max(...finite)].map(Math.log10);
    const slider = make("input", { type: "range", min: 0, max: 100, value: 100, step: 1 });
    most = make("input", { type: "number", min: 0, step: "any", placeholder: "any" });
    slider.addEventListener("input", () => {
      const end = slider.value === "100";
      most.value = end ? "" : (10 ** (low + ((high - low) * slider.value) / 100)).toPrecision(3) * 1;
    });
    form.append(make("label", {}, "epsilon at most ", most), make("label", {}, "slide epsilon ", slider));
  }
  const setting = columns.filter(
    (c) => ![epsilon, by("accuracy %"), by("± points"), by("valid. %"), by("seeds"), by("accountant")].includes(c.index) &&
      levels[c.index].length > 1 && levels[c.index].length <= 20,
  );
  const kept = setting.map((c) => [
    c.index,
    select(c.name, [["all", "all"], ...levels[c.index].map((t) => [t || "none", `=${t}`])], "all"),
  ]);
  const log = make("input", { type: "checkbox", checked: true });
  form.append(make("label", {}, log, " log scale of x"));

  const passes = (row) =>
    (!most?.value || row.values[epsilon] <= parseFloat(most.value)) &&
    kept.every(([index, control]) => control.value === "all" || `=${row.cells[index]}` === control.value);

  // Chart
  const chart = document.getElementById("chart");
  const said = document.getElementById("drawn");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const pointed = document.getElementById("pointed");
  let view = null;
  let turn = 0;
  let shown = []; // the markers in the order in which arrow keys go through them
  let at = -1;
  const title = (index) => columns[index].name;
  const tooltip = (row) => {
    const texts = columns.filter((c) => row.cells[c.index] !== "").map((c) => [c.name, row.cells[c.index]]);
    return Object.fromEntries(texts);
  };
  async function draw() {
    const mine = ++turn;
    const [xs, ys, cs] = [x, y, colour].map((control) => Number(control.value));
    const here = rows.filter(passes);
    const placed = here.filter((row) => [xs, ys].every((i) => Number.isFinite(row.values[i])));
    const logarithmic = log.checked && placed.every((row) => row.values[xs] > 0);
    const style = getComputedStyle(document.body);
    const ink = style.getPropertyValue("--ink").trim();
    const line = style.getPropertyValue("--line").trim();
    const data = placed.map((row) => ({
      x: row.values[xs],
      y: row.values[ys],
      colour: cs < 0 ? "" : row.cells[cs] || "none",
      id: row.id,
      setting: tooltip(row),
    }));
    const narrow = chart.parentElement.clientWidth < 600;
    const order = cs < 0 ? [""] : levels[cs].map((text) => text || "none");
    const spec = {
      $schema: "https://vega.github.io/schema/vega-lite/v6.json", // a name, which nothing loads
      width: Math.max(200, Math.min(800, chart.parentElement.clientWidth - (narrow ? 80 : 190))),
      height: narrow ? 300 : 380,
      background: null,
      data: { values: data },
      params: [{ name: "at", value: "" }], // the id of the marker that the keyboard is at
      mark: { type: "point", filled: true, opacity: 0.75, cursor: "pointer" },
      encoding: {
        x: { field: "x", type: "quantitative", title: title(xs), scale: { nice: false, padding: 12, ...(logarithmic ? { type: "log" } : { zero: false }) }, axis: { labelOverlap: true } },
        y: { field: "y", type: "quantitative", title: title(ys), scale: { zero: false } },
        ...(cs < 0 ? {} : {
          color: { field: "colour", type: "nominal", sort: order, title: title(cs), scale: { domain: order, range: ["#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc", "#ca9161", "#56b4e9", "#949494", "#b8a400", "#8a6fd1"] } },
          shape: { field: "colour", type: "nominal", sort: order, title: title(cs), scale: { domain: order } },
        }),
        size: { condition: { test: "datum.id === at", value: 300 }, value: data.length > 2000 ? 20 : 70 },
        stroke: { condition: { test: "datum.id === at", value: ink }, value: null },
        tooltip: { field: "setting" },
      },
      config: {
        view: { stroke: line },
        axis: { labelColor: ink, titleColor: ink, gridColor: line, gridOpacity: 0.5, domainColor: line, tickColor: line, labelFontSize: 12, titleFontSize: 13 },
        legend: { orient: narrow ? "bottom" : "right", columns: narrow ? 3 : 1, labelColor: ink, titleColor: ink, labelFontSize: 12, titleFontSize: 12, symbolSize: 90 },
      },
    };
    const options = { actions: false, ast: true, renderer: "canvas", tooltip: { theme: dark.matches ? "dark" : "light" } };
    const made = await vegaEmbed(chart, spec, options);
    if (mine !== turn) return made.finalize(); // drawn again meanwhile
    view?.finalize();
    view = made;
    view.view.addEventListener("click", (_event, item) => {
      if (item?.datum?.id) location.hash = item.datum.id;
    });
    shown = data.sort((a, b) => a.x - b.x || a.y - b.y);
    at = -1;
    pointed.textContent = "";
    const lost = here.length - placed.length;
    said.textContent = `${placed.length} of ${rows.length} arms are drawn` +
      (lost ? `; ${lost} have no finite ${title(xs)} or ${title(ys)}.` : ".");
  }
  // By keyboard: arrows go from marker to marker, Enter leads to the row
  const steps = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, Home: -Infinity, End: Infinity };
  chart.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || !view || !shown.length) return;
    if (event.key === "Enter" && at >= 0) location.hash = shown[at].id;
    else if (event.key in steps) {
      at = at < 0 && steps[event.key] === -1 ? shown.length - 1 : Math.max(0, Math.min(shown.length - 1, at + steps[event.key]));
      view.view.signal("at", shown[at].id).runAsync();
      const setting = Object.entries(shown[at].setting).map(([name, text]) => `${name} ${text}`);
      pointed.textContent = `Marker ${at + 1} of ${shown.length}: ${setting.join(", ")}`;
    } else return;
    event.preventDefault();
  });
  let waiting = 0;
  const soon = () => {
    clearTimeout(waiting);
    waiting = setTimeout(draw, 60);
  };
  form.addEventListener("input", soon);
  form.addEventListener("submit", (event) => event.preventDefault());
  dark.addEventListener("change", soon);
  // drawn when it comes near: a page that nobody scrolls needs no chart
  new IntersectionObserver((entries, observer) => {
    if (entries.some((entry) => entry.isIntersecting)) {
      observer.disconnect();
      draw();
    }
  }, { rootMargin: "300px" }).observe(chart.parentElement);
}
