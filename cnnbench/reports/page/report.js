"use strict";

const find = (id) => document.getElementById(id);
const data = JSON.parse(find("data").textContent);
const runs = find("runs");
const rows = [...runs.tBodies[0].rows]; // in the order of data.runs, even if the table is sorted
const MAX_NUMBERS = 5; // of runs in a label
const headers = [...runs.tHead.rows[0].cells];

/* Runs that differ only in seed or fold are a group and look alike. The map has each group with chosen runs: these runs,
   and the number of the group's style, which stays the same while any of its runs is chosen. */
const chosen = new Map();

const heading = (header) => header.textContent.trim();
const column = (name) => headers.findIndex((header) => header.dataset.name === name);
const number = (row, name) => Number(row.cells[column(name)]?.dataset.number ?? NaN);

/** Return a new element with text, never markup. */
function make(tag, text, className = "") {
  const element = document.createElement(tag);
  element.textContent = text;
  element.className = className;
  return element;
}

function makeMark({ color, sign }) {
  const element = make("span", sign, "mark");
  element.style.color = color;
  element.setAttribute("aria-hidden", "true");
  return element;
}

function fillLegend(list, entries) {
  list.replaceChildren(
    ...entries.map(({ label, style }) => {
      const item = make("li", label);
      item.prepend(makeMark(style));
      return item;
    }),
  );
}

/* Sorting: rows with an empty cell come last in either direction. */

const collator = new Intl.Collator("en", { numeric: true });

function sort(table, header) {
  const previous = header.getAttribute("aria-sort");
  const isDescending = previous === null ? "moreIsBetter" in header.dataset : previous === "ascending";
  const isNumeric = header.classList.contains("number") || header.dataset.name === "number";
  const sortKey = (row) => {
    const cell = row.cells[header.cellIndex];
    if (cell.textContent === "") return null;
    return isNumeric ? Number(cell.dataset.number) : cell.textContent;
  };
  const sign = isDescending ? -1 : 1;
  const sorted = [...table.tBodies[0].rows]
    .map((row) => [sortKey(row), row])
    .sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null);
      return sign * (isNumeric ? a - b : collator.compare(a, b));
    });
  table.tBodies[0].append(...sorted.map(([, row]) => row));
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", isDescending ? "descending" : "ascending");
}

for (const table of document.querySelectorAll("#runs, #groups")) {
  for (const header of table.tHead.rows[0].cells) {
    header.querySelector("button").addEventListener("click", () => sort(table, header));
  }
}

/* Filtering: a row is shown if each word is in one of its cells. key=value asks for a value in the column of that key. */

const texts = rows.map((row) => [...row.cells].map((cell) => cell.textContent.trim().toLowerCase()));
const keys = headers.map((header) => [
  header.dataset.name,
  header.dataset.name.split(".").pop(),
  heading(header).split(" (")[0].replaceAll(" ", "_"),
]);

const relations = { "=": (a, b) => a === b, "<": (a, b) => a < b, ">": (a, b) => a > b };

const splitWord = (word) => word.match(/^([^=<>]+)([=<>])(.+)$/) ?? [];
const columnOfKey = (key) => keys.findIndex((names) => names.includes(key));

function matches(cells, word) {
  const [, key, sign, value] = splitWord(word);
  const index = columnOfKey(key);
  if (index < 0) return cells.some((cell) => cell.includes(word));
  const cell = cells[index];
  if (cell === "") return false;
  const isMatchingNumber = relations[sign](Number(cell.replaceAll(",", "")), Number(value));
  return isMatchingNumber || (sign === "=" && cell.split(/\s+/).includes(value));
}

function filter() {
  const words = find("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const status = find("status").value;
  const statusColumn = column("status");
  const unknown = words.map((word) => splitWord(word)[1]).find((key) => key !== undefined && columnOfKey(key) < 0);
  const names = headers.slice(1).map((header) => header.dataset.name);
  find("unknown-column").textContent =
    unknown === undefined ? "" : `There is no column '${unknown}'. Columns: ${names.join(", ")}.`;
  rows.forEach((row, run) => {
    const hasStatus = status === "" || texts[run][statusColumn] === status;
    row.hidden = !(hasStatus && words.every((word) => matches(texts[run], word)));
  });
  redraw();
}

/* The choice of runs. */

const groupOf = (run) => data.runs[run].group;
const isChosen = (run) => chosen.get(groupOf(run))?.runs.has(run) ?? false;

function choose(run, isWanted) {
  const group = groupOf(run);
  if (isWanted && !chosen.has(group)) {
    const taken = new Set([...chosen.values()].map(({ style }) => style));
    let style = 0;
    while (taken.has(style)) style += 1;
    chosen.set(group, { style, runs: new Set() });
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
    const style = isChosen(run) ? charts.getStyle(chosen.get(groupOf(run)).style) : { sign: "", color: "" };
    count += isChosen(run);
    row.classList.toggle("chosen", isChosen(run));
    row.querySelector("input").checked = isChosen(run);
    row.querySelector(".mark").textContent = style.sign;
    row.querySelector(".mark").style.color = style.color;
  });
  const shown = rows.filter((row) => !row.hidden).length;
  find("count").textContent = `${shown} of ${rows.length} shown, ${count} chosen`;
}

/* The charts and tables of the chosen runs. */

/** Return the name of a run: its number, and the settings that distinguish it from all others. */
const fullName = (run) => `${run + 1}: ${Object.values(data.runs[run].settings).join(", ")}`;

/** Return the name of runs of a group: their numbers, network, and the settings in which the chosen runs differ. */
function shortName(own, all) {
  const varying = Object.entries(own[0].settings).filter(
    ([key, value]) =>
      own.every(({ settings }) => settings[key] === value) &&
      (key === "model" || all.some(({ settings }) => settings[key] !== value)),
  );
  const numbers = own.length > MAX_NUMBERS ? `${own.length} runs` : own.map(({ run }) => run + 1).join(", ");
  return `${numbers}: ${varying.map(([, value]) => value).join(", ")}`;
}

/** Return the label, the style and the chosen runs of each chosen group. */
function chosenGroups() {
  const groups = [...chosen.values()].map(({ runs, style }) => ({
    style: charts.getStyle(style),
    runs: [...runs].sort((a, b) => a - b).map((run) => ({ ...data.runs[run], run })),
  }));
  const all = groups.flatMap(({ runs }) => runs);
  return groups.map((group) => ({ ...group, label: shortName(group.runs, all) }));
}

function chosenRuns() {
  const groups = chosenGroups();
  const all = groups.flatMap(({ runs }) => runs);
  return groups.flatMap(({ runs, style }) => runs.map((run) => ({ ...run, style, label: shortName([run], all) })));
}

function showCurves() {
  const groups = chosenGroups().map((group) => ({
    ...group,
    runs: group.runs.filter(({ curves }) => curves.epoch.length > 0),
  }));
  const drawn = groups.filter(({ runs }) => runs.length > 0);
  fillLegend(find("curves-legend"), drawn);
  charts.drawCurves(find("curves"), drawn, find("quantity").value, find("training").checked);
}

function showCost() {
  const [x, y] = ["cost", "accuracy"].map((id) => find(id).selectedOptions[0]);
  const groups = chosenGroups();
  const others = { label: "not chosen", style: charts.getFaintStyle() };
  const groupsByNumber = new Map([...chosen.keys()].map((group, index) => [group, groups[index]]));
  const points = rows
    .map((row, run) => ({
      label: fullName(run),
      series: groupsByNumber.get(groupOf(run)) ?? others,
      x: x ? number(row, x.value) : NaN,
      y: y ? number(row, y.value) : NaN,
      isChosen: isChosen(run),
    }))
    .filter((point, run) => !rows[run].hidden && point.x > 0 && Number.isFinite(point.y));
  const series = [...groups, others].filter((one) => points.some((point) => point.series === one));
  fillLegend(find("cost-legend"), series);
  charts.drawCost(find("cost-chart"), points, series.reverse(), x?.text ?? "", y?.text ?? "");
}

function showGrid() {
  const grid = data.grids[find("grid").selectedIndex];
  if (!grid) return;
  find("grid-part").textContent = grid.part;
  charts.drawHeatMap(find("grid-chart"), grid);
}

/** Fill a table with a column for each of `runs` and a row for each of `names`; `value` returns the text of a cell. */
function fillTable(table, runs, names, value) {
  const head = make("tr", "");
  head.append(
    make("th", "", "first"),
    ...runs.map(({ label, style }) => {
      const header = make("th", label);
      header.scope = "col";
      header.prepend(makeMark(style));
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
  const varying = names.filter((name) => new Set(known.map((group) => values(group, name))).size > 1);
  fillTable(find("differences"), known, varying, values);
  let note = "The keys whose values differ between the chosen runs.";
  if (known.length < 2) note = "Choose runs that differ in more than seed or fold.";
  else if (varying.length === 0) note = "The chosen runs are configured alike.";
  find("differences-note").textContent = note;
}

function showRecall() {
  const measured = chosenRuns().filter(({ recall }) => Object.keys(recall).length > 0);
  const names = [...new Set(measured.flatMap(({ recall }) => Object.keys(recall)))];
  find("recall-section").hidden = measured.length === 0;
  fillTable(find("recall"), measured, names, ({ recall }, name) => recall[name]?.toFixed(4));
}

/* The next frame shows the table up to date; charts, which take longer, follow. */

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

/* The start of the page. */

function fillSelect(select, options) {
  select.replaceChildren(...options.map(([value, text]) => new Option(text, value)));
  select.closest("label").hidden = options.length < 2;
}

const known = (names) =>
  names.filter((name) => column(name) >= 0).map((name) => [name, heading(headers[column(name)])]);
fillSelect(find("accuracy"), known(["test_accuracy", "validation_accuracy"]));
fillSelect(find("cost"), known(["train_eval_s", "parameters", "multiply_adds"]));
fillSelect(find("grid"), data.grids.map(({ title }, index) => [index, title]));
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
