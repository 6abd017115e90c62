"use strict";
// Adds sorting to the tables; the page says everything without it.
const number = (text) => (text === "inf" ? Infinity : parseFloat(text));
for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const numeric = head.classList.contains("number");
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
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
