"use strict";

// Numbers by their first number, words by the alphabet; what has no value stays at the end.
const NOTHING = "–";

function value(row, column, isNumber) {
  const text = row.cells[column].textContent.trim();
  if (text === NOTHING || text === "") return null;
  if (!isNumber) return text;
  const found = text.replaceAll(",", "").match(/[+-]?\d+(\.\d+)?(e[+-]?\d+)?/);
  return found ? Number(found[0]) : null;
}

function compare(a, b) {
  return typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true });
}

function sort(table, header) {
  const sign = header.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  const column = header.cellIndex;
  const isNumber = header.classList.contains("number");
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
  const rows = Array.from(table.tBodies[0].rows, (row) => [value(row, column, isNumber), row]);
  rows.sort(([a], [b]) => (a === null) - (b === null) || (a === null ? 0 : sign * compare(a, b)));
  table.tBodies[0].append(...rows.map(([, row]) => row));
}

for (const table of document.querySelectorAll("table")) {
  for (const header of table.tHead.rows[0].cells) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    button.addEventListener("click", () => sort(table, header));
    header.append(button);
  }
}

const theme = document.getElementById("theme");
const prefersDark = window.matchMedia("(prefers-color-scheme: dark)");
let dark = null; // Chosen here; otherwise what the system prefers.

function showTheme() {
  const isDark = dark ?? prefersDark.matches;
  document.documentElement.style.colorScheme = isDark ? "dark" : "light";
  theme.textContent = isDark ? "Light" : "Dark";
  theme.setAttribute("aria-label", isDark ? "Show light colours" : "Show dark colours");
}

theme.hidden = false;
theme.addEventListener("click", () => {
  dark = !(dark ?? prefersDark.matches);
  showTheme();
});
prefersDark.addEventListener("change", showTheme);
showTheme();
