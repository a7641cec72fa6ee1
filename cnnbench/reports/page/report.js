"use strict";

const find = (id) => document.getElementById(id);
const data = JSON.parse(find("data").textContent);
const runs = find("runs");
const rows = [...runs.tBodies[0].rows]; // as in data.runs, however they are sorted
const headers = [...runs.tHead.rows[0].cells];
const chosen = new Map(); // the number of each chosen run, and that of its look, which it keeps while it is chosen

const heading = (header) => header.textContent.trim();
const column = (name) => headers.findIndex((header) => header.dataset.name === name);
const number = (row, name) => Number(row.cells[column(name)]?.dataset.number ?? NaN);

/** An element with text, never markup. */
function make(tag, text, className = "") {
  const element = document.createElement(tag);
  element.textContent = text;
  element.className = className;
  return element;
}

function mark({ colour, sign }) {
  const element = make("span", sign, "mark");
  element.style.color = colour;
  element.setAttribute("aria-hidden", "true");
  return element;
}

function fillLegend(list, entries) {
  list.replaceChildren(
    ...entries.map(([label, look]) => {
      const item = make("li", label);
      item.prepend(mark(look));
      return item;
    }),
  );
}

/* Sorting: what is missing comes last either way. */

const collator = new Intl.Collator("en", { numeric: true });

function sort(table, header) {
  const before = header.getAttribute("aria-sort");
  const descending = before === null ? "moreIsBetter" in header.dataset : before === "ascending";
  const numeric = header.classList.contains("number") || header.dataset.name === "number";
  const key = (row) => {
    const cell = row.cells[header.cellIndex];
    if (cell.textContent === "") return null;
    return numeric ? Number(cell.dataset.number) : cell.textContent;
  };
  const sign = descending ? -1 : 1;
  const sorted = [...table.tBodies[0].rows]
    .map((row) => [key(row), row])
    .sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null);
      return sign * (numeric ? a - b : collator.compare(a, b));
    });
  table.tBodies[0].append(...sorted.map(([, row]) => row));
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", descending ? "descending" : "ascending");
}

for (const table of document.querySelectorAll("#runs, #groups")) {
  for (const header of table.tHead.rows[0].cells) {
    header.querySelector("button").addEventListener("click", () => sort(table, header));
  }
}

/* Filtering: every word must be in the row or, as key=value, be what that column has. */

const texts = rows.map((row) => [...row.cells].map((cell) => cell.textContent.trim().toLowerCase()));
const keys = headers.map((header) => [
  header.dataset.name,
  header.dataset.name.split(".").pop(),
  heading(header).split(" (")[0].replaceAll(" ", "_"),
]);

const relations = { "=": (a, b) => a === b, "<": (a, b) => a < b, ">": (a, b) => a > b };

function matches(cells, word) {
  const [, key, sign, value] = word.match(/^([^=<>]+)([=<>])(.+)$/) ?? [];
  const at = keys.findIndex((names) => names.includes(key));
  if (at < 0) return cells.some((cell) => cell.includes(word));
  const cell = cells[at];
  if (cell === "") return false;
  const numbers = relations[sign](Number(cell.replaceAll(",", "")), Number(value));
  return numbers || (sign === "=" && cell.split(/\s+/).includes(value));
}

function filter() {
  const words = find("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const status = find("status").value;
  const at = column("status");
  rows.forEach((row, run) => {
    row.hidden = !((status === "" || texts[run][at] === status) && words.every((word) => matches(texts[run], word)));
  });
  redraw();
}

/* Choosing. */

function choose(run, isChosen) {
  if (isChosen && !chosen.has(run)) {
    const taken = new Set(chosen.values());
    let look = 0;
    while (taken.has(look)) look += 1;
    chosen.set(run, look);
  } else if (!isChosen) {
    chosen.delete(run);
  }
}

function chooseAll(isChosen) {
  rows.forEach((row, run) => {
    if (!isChosen || !row.hidden) choose(run, isChosen);
  });
  redraw();
}

function showChosen() {
  rows.forEach((row, run) => {
    const look = chosen.has(run) ? charts.look(chosen.get(run)) : { sign: "", colour: "" };
    row.classList.toggle("chosen", chosen.has(run));
    row.querySelector("input").checked = chosen.has(run);
    row.querySelector(".mark").textContent = look.sign;
    row.querySelector(".mark").style.color = look.colour;
  });
  const shown = rows.filter((row) => !row.hidden).length;
  find("count").textContent = `${shown} of ${rows.length} shown, ${chosen.size} chosen`;
}

/* What is shown of those that are chosen. */

/** The name of a run: its number, and what tells it from all others. */
const fullName = (run) => `${run + 1}: ${Object.values(data.runs[run].settings).join(", ")}`;

/** The same among the chosen: its network, and the settings in which those differ. */
function shortName(run) {
  const settings = [...chosen.keys()].map((other) => data.runs[other].settings);
  const telling = Object.entries(data.runs[run].settings).filter(
    ([key, value]) => key === "model" || settings.some((other) => other[key] !== value),
  );
  return `${run + 1}: ${telling.map(([, value]) => value).join(", ")}`;
}

function chosenRuns() {
  return [...chosen].map(([run, look]) => ({ ...data.runs[run], label: shortName(run), look: charts.look(look) }));
}

function showCurves() {
  const drawn = chosenRuns().filter((run) => run.curves.epoch.length > 0);
  fillLegend(find("curves-legend"), drawn.map(({ label, look }) => [label, look]));
  charts.curves(find("curves"), drawn, find("quantity").value, find("training").checked);
}

function showCost() {
  const [x, y] = ["cost", "accuracy"].map((id) => find(id).selectedOptions[0]);
  const network = column("model");
  const points = rows
    .map((row, run) => ({
      label: fullName(run),
      series: network < 0 ? "" : row.cells[network].textContent,
      x: x ? number(row, x.value) : NaN,
      y: y ? number(row, y.value) : NaN,
      isHidden: row.hidden,
      isChosen: chosen.has(run),
    }))
    .filter((point) => point.x > 0 && Number.isFinite(point.y));
  const series = [...new Set(points.map((point) => point.series))].sort(collator.compare);
  fillLegend(find("cost-legend"), series.map((name, at) => [name, charts.look(at)]));
  const shown = points.filter((point) => !point.isHidden);
  charts.cost(find("cost-chart"), shown, series, x?.text ?? "", y?.text ?? "");
}

function showGrid() {
  const grid = data.grids[find("grid").selectedIndex];
  if (!grid) return;
  find("grid-part").textContent = grid.part;
  charts.heatMap(find("grid-chart"), grid);
}

/** A table with a column for each of `runs` and a row for each of `names`; `value` has what is in its cells. */
function compare(table, runs, names, value) {
  const head = make("tr", "");
  head.append(
    make("th", "", "first"),
    ...runs.map(({ label, look }) => {
      const header = make("th", label);
      header.scope = "col";
      header.prepend(mark(look));
      return header;
    }),
  );
  const body = names.map((name) => {
    const row = make("tr", "");
    const header = make("th", name, "first");
    header.scope = "row";
    row.append(header, ...runs.map((run) => make("td", value(run, name) ?? "")));
    return row;
  });
  table.tHead.replaceChildren(head);
  table.tBodies[0].replaceChildren(...body);
}

function showDifferences() {
  const known = chosenRuns().filter(({ config }) => Object.keys(config).length > 0);
  const names = [...new Set(known.flatMap(({ config }) => Object.keys(config)))];
  const differing = names.filter((name) => new Set(known.map(({ config }) => config[name])).size > 1);
  compare(find("differences"), known, differing, ({ config }, name) => config[name]);
  const none = known.length < 2 ? "Choose two runs or more." : "The chosen runs are configured alike.";
  const some = "The keys whose values differ between the chosen runs.";
  find("differences-note").textContent = differing.length > 0 ? some : none;
}

function showRecall() {
  const measured = chosenRuns().filter(({ recall }) => Object.keys(recall).length > 0);
  const names = [...new Set(measured.flatMap(({ recall }) => Object.keys(recall)))];
  find("recall-section").hidden = measured.length === 0;
  compare(find("recall"), measured, names, ({ recall }, name) => recall[name]?.toFixed(4));
}

/* The table is up to date in the next frame, the rest after that. */

let isWaiting = false;

function redraw() {
  showChosen();
  if (isWaiting) return;
  isWaiting = true;
  requestAnimationFrame(() => setTimeout(showAll));
}

function showAll() {
  isWaiting = false;
  for (const show of [showCurves, showCost, showDifferences, showRecall]) show();
}

/* Everything together. */

function fillSelect(select, options) {
  select.replaceChildren(...options.map(([value, text]) => new Option(text, value)));
  select.closest("label").hidden = options.length < 2;
}

const known = (names) =>
  names.filter((name) => column(name) >= 0).map((name) => [name, heading(headers[column(name)])]);
fillSelect(find("accuracy"), known(["test_accuracy", "validation_accuracy"]));
fillSelect(find("cost"), known(["wall_s", "parameters", "multiply_adds"]));
fillSelect(find("grid"), data.grids.map(({ title }, at) => [at, title]));
find("grid-section").hidden = data.grids.length === 0;

rows.forEach((row, run) => {
  const box = row.querySelector("input");
  choose(run, box.checked);
  box.addEventListener("change", () => {
    choose(run, box.checked);
    redraw();
  });
});
find("filter").addEventListener("input", filter);
find("status").addEventListener("change", filter);
find("choose-shown").addEventListener("click", () => chooseAll(true));
find("choose-none").addEventListener("click", () => chooseAll(false));
for (const id of ["quantity", "training"]) find(id).addEventListener("change", showCurves);
for (const id of ["accuracy", "cost"]) find(id).addEventListener("change", showCost);
find("grid").addEventListener("change", showGrid);
document.addEventListener("theme", () => {
  redraw();
  showGrid();
});
