"use strict";

const find = (id) => document.getElementById(id);
const data = JSON.parse(find("data").textContent);
const runs = find("runs");
const rows = [...runs.tBodies[0].rows]; // as in data.runs, however they are sorted
const MOST_NUMBERS = 5; // of runs in a label
const headers = [...runs.tHead.rows[0].cells];

/* Runs that differ in seed or fold alone are a group and look alike. Of each group with chosen runs here are those, and
   the number of its look, which it keeps while any of them is chosen. */
const chosen = new Map();

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

const parts = (word) => word.match(/^([^=<>]+)([=<>])(.+)$/) ?? [];
const place = (key) => keys.findIndex((names) => names.includes(key));

function matches(cells, word) {
  const [, key, sign, value] = parts(word);
  const at = place(key);
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
  const unknown = words.map((word) => parts(word)[1]).find((key) => key !== undefined && place(key) < 0);
  const names = headers.slice(1).map((header) => header.dataset.name);
  find("unknown-column").textContent =
    unknown === undefined ? "" : `There is no column '${unknown}'. Columns: ${names.join(", ")}.`;
  rows.forEach((row, run) => {
    row.hidden = !((status === "" || texts[run][at] === status) && words.every((word) => matches(texts[run], word)));
  });
  redraw();
}

/* Choosing. */

const groupOf = (run) => data.runs[run].group;
const isChosen = (run) => chosen.get(groupOf(run))?.runs.has(run) ?? false;

function choose(run, isWanted) {
  const group = groupOf(run);
  if (isWanted && !chosen.has(group)) {
    const taken = new Set([...chosen.values()].map(({ look }) => look));
    let look = 0;
    while (taken.has(look)) look += 1;
    chosen.set(group, { look, runs: new Set() });
  }
  const runs = chosen.get(group)?.runs;
  if (isWanted) runs.add(run);
  else runs?.delete(run);
  if (runs?.size === 0) chosen.delete(group);
}

function chooseAll(isWanted) {
  rows.forEach((row, run) => {
    if (!isWanted || !row.hidden) choose(run, isWanted);
  });
  redraw();
}

function showChosen() {
  let count = 0;
  rows.forEach((row, run) => {
    const look = isChosen(run) ? charts.look(chosen.get(groupOf(run)).look) : { sign: "", colour: "" };
    count += isChosen(run);
    row.classList.toggle("chosen", isChosen(run));
    row.querySelector("input").checked = isChosen(run);
    row.querySelector(".mark").textContent = look.sign;
    row.querySelector(".mark").style.color = look.colour;
  });
  const shown = rows.filter((row) => !row.hidden).length;
  find("count").textContent = `${shown} of ${rows.length} shown, ${count} chosen`;
}

/* What is shown of those that are chosen. */

/** The name of a run: its number, and what tells it from all others. */
const fullName = (run) => `${run + 1}: ${Object.values(data.runs[run].settings).join(", ")}`;

/** The name of runs of one group: their numbers, network, and the settings in which not all chosen ones are the same. */
function shortName(own, all) {
  const telling = Object.entries(own[0].settings).filter(
    ([key, value]) =>
      own.every(({ settings }) => settings[key] === value) &&
      (key === "model" || all.some(({ settings }) => settings[key] !== value)),
  );
  const numbers = own.length > MOST_NUMBERS ? `${own.length} runs` : own.map(({ run }) => run + 1).join(", ");
  return `${numbers}: ${telling.map(([, value]) => value).join(", ")}`;
}

/** Of each chosen group its name, its look and its chosen runs. */
function chosenGroups() {
  const groups = [...chosen.values()].map(({ runs, look }) => ({
    look: charts.look(look),
    runs: [...runs].sort((a, b) => a - b).map((run) => ({ ...data.runs[run], run })),
  }));
  const all = groups.flatMap(({ runs }) => runs);
  return groups.map((group) => ({ ...group, label: shortName(group.runs, all) }));
}

function chosenRuns() {
  const groups = chosenGroups();
  const all = groups.flatMap(({ runs }) => runs);
  return groups.flatMap(({ runs, look }) => runs.map((run) => ({ ...run, look, label: shortName([run], all) })));
}

const legend = ({ label, look }) => [label, look];

function showCurves() {
  const groups = chosenGroups().map((group) => ({
    ...group,
    runs: group.runs.filter(({ curves }) => curves.epoch.length > 0),
  }));
  const drawn = groups.filter(({ runs }) => runs.length > 0);
  fillLegend(find("curves-legend"), drawn.map(legend));
  charts.curves(find("curves"), drawn, find("quantity").value, find("training").checked);
}

function showCost() {
  const [x, y] = ["cost", "accuracy"].map((id) => find(id).selectedOptions[0]);
  const groups = chosenGroups();
  const others = { label: "not chosen", look: charts.faint() };
  const places = new Map([...chosen.keys()].map((group, at) => [group, groups[at]]));
  const points = rows
    .map((row, run) => ({
      label: fullName(run),
      series: places.get(groupOf(run)) ?? others,
      x: x ? number(row, x.value) : NaN,
      y: y ? number(row, y.value) : NaN,
      isChosen: isChosen(run),
    }))
    .filter((point, run) => !rows[run].hidden && point.x > 0 && Number.isFinite(point.y));
  const series = [...groups, others].filter((one) => points.some((point) => point.series === one));
  fillLegend(find("cost-legend"), series.map(legend));
  charts.cost(find("cost-chart"), points, series.reverse(), x?.text ?? "", y?.text ?? "");
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
  const known = chosenGroups().filter(({ runs }) => Object.keys(runs[0].config).length > 0);
  const names = [...new Set(known.flatMap(({ runs }) => runs.flatMap(({ config }) => Object.keys(config))))];
  const values = ({ runs }, name) => [...new Set(runs.map(({ config }) => config[name]))].join(", ");
  const differing = names.filter((name) => new Set(known.map((group) => values(group, name))).size > 1);
  compare(find("differences"), known, differing, values);
  const none = known.length < 2 ? "Choose runs that differ in more than seed or fold." : "The chosen runs are configured alike.";
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
fillSelect(find("cost"), known(["train_eval_s", "parameters", "multiply_adds"]));
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
