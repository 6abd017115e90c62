"use strict";
// Sorts and filters the tables, and copies; the page says everything without it.
const number = (text) => (text === "inf" ? Infinity : parseFloat(text));
const element = (name, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
};

function sortable(table) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const numeric = head.classList.contains("number");
    const button = element("button", { type: "button" }, ...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const keyed = [...table.tBodies[0].rows].map((row) => {
        const text = row.cells[column].textContent;
        return [numeric ? number(text) : text, row];
      });
      const blank = (key) => key === "" || Number.isNaN(key);
      keyed.sort(([a], [b]) => {
        if (blank(a) || blank(b)) return blank(a) - blank(b); // blanks last, either way
        const order = numeric ? (a > b) - (a < b) : a.localeCompare(b); // inf - inf is no number
        return down ? -order : order;
      });
      table.tBodies[0].append(...keyed.map(([, row]) => row));
    });
  });
}

// A word of the filter -> whether a row passes: `epsilon<3`, `engine=fused`, or any text.
const comparisons = {
  "<=": (a, b) => a <= b,
  ">=": (a, b) => a >= b,
  "<": (a, b) => a < b,
  ">": (a, b) => a > b,
  "=": (a, b) => a === b,
};
function test(word, names) {
  const [, name, sign, value] = word.match(/^(.+?)(<=|>=|<|>|=)(.+)$/) ?? [];
  const column = names.findIndex((each) => each === name || each.split(" ")[0] === name);
  if (column < 0) return (row) => row.textContent.toLowerCase().includes(word.toLowerCase());
  const wanted = number(value);
  return (row) => {
    const text = row.cells[column].textContent;
    if (Number.isNaN(wanted)) return sign === "=" && text.toLowerCase() === value.toLowerCase();
    return comparisons[sign](number(text), wanted);
  };
}

function filterable(table) {
  const names = [...table.tHead.rows[0].cells].map((head) => head.textContent);
  const example = names.includes("epsilon") ? "epsilon<3 fused" : "any text";
  const input = element("input", { type: "search", placeholder: example });
  const shown = element("span", { role: "status" });
  const form = element("p", { className: "filter" }, element("label", {}, "Filter rows: ", input), " ", shown);
  table.closest(".scroll").before(form);
  input.addEventListener("input", () => {
    const tests = input.value.trim().split(/\s+/).filter(Boolean).map((word) => test(word, names));
    let count = 0;
    for (const row of table.tBodies[0].rows) {
      row.hidden = !tests.every((passes) => passes(row));
      count += !row.hidden;
    }
    shown.textContent = tests.length ? `${count} of ${table.tBodies[0].rows.length} rows` : "";
  });
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch { // a page that was opened as a file may not be let
    const area = element("textarea", { value: text });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}

for (const answer of document.querySelectorAll(".answer")) {
  for (const text of answer.querySelectorAll("[data-copy]")) {
    const name = text.dataset.copy;
    const label = name.startsWith("privacy") ? `Copy the ${name}` : `Copy as ${name}`;
    const button = element("button", { type: "button", textContent: label });
    button.addEventListener("click", async () => {
      await copy(text.textContent);
      button.textContent = "Copied";
      setTimeout(() => (button.textContent = label), 2000);
    });
    answer.querySelector(".actions").append(" ", button);
  }
}

for (const table of document.querySelectorAll("table.rows")) {
  sortable(table);
  filterable(table);
}

// A row that is filtered out is shown when something links to it.
function showRow() {
  const row = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (row?.matches("tr")) {
    row.hidden = false;
    row.scrollIntoView({ block: "center" });
  }
}
addEventListener("hashchange", showRow);
showRow();

// What is wider than its box says so, and nothing else does.
const boxes = [...document.querySelectorAll(".scroll, .card")];
function hint() {
  for (const box of boxes) {
    const text = box.nextElementSibling;
    if (!text?.classList.contains("hint")) continue;
    const fits = box.scrollWidth <= box.clientWidth + 1;
    text.classList.toggle("fits", fits);
    text.classList.toggle("needed", !fits);
  }
}
const seen = new ResizeObserver(hint);
boxes.forEach((box) => seen.observe(box));

// Paper shows all of it.
let closed = [];
addEventListener("beforeprint", () => {
  closed = [...document.querySelectorAll("details:not([open])")];
  closed.forEach((each) => (each.open = true));
});
addEventListener("afterprint", () => closed.forEach((each) => (each.open = false)));

if (document.getElementById("explore")) explore(document.getElementById("arms"));
