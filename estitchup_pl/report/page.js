const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const SHARES = ["known", "none", "overall", "coverage", "accepted"];

// Colours are the page's own variables, so charts follow its theme, on paper too, without being drawn again.
const CONFIG = {
  background: "transparent",
  font: "system-ui, sans-serif",
  view: { stroke: "transparent" },
  axis: {
    gridColor: "var(--grid)", domainColor: "var(--muted)", tickColor: "var(--muted)",
    labelFontSize: 11.5, titleFontSize: 12, labelColor: "var(--muted)", titleColor: "var(--ink)", titleFontWeight: 500,
  },
  legend: { layout: { bottom: { direction: "vertical", anchor: "start" } }, labelFontSize: 11.5, labelColor: "var(--ink)", titleColor: "var(--ink)" },
  range: { category: ["var(--known)", "var(--none)", "var(--overall)", "var(--muted)"] },
  mark: { color: "var(--known)" },
};
const embed = (place, spec) =>
  window.vegaEmbed(place, spec, { config: CONFIG, renderer: "svg", actions: false, mode: "vega-lite" });

function running(steps) {
  let sum = 0;
  return steps && steps.map((step) => (sum += step));
}

for (const method of data.methods)
  for (const view of method.views) {
    for (const name of [...SHARES, "labelling", "low", "high"]) view[name] = running(view[name]);
    view.thresholds = [...data.grid];
    const chosen = Object.values(view.chosen).sort((a, b) => a.index - b.index);
    for (const { index, text } of chosen) view.thresholds.splice(index, 0, text);
  }

const percent = (units) => `${(units / 100).toFixed(2)} %`;
const count = (number) => String(number).replace(/\B(?=(\d{3})+$)/g, ",");
const confidence = (value) => (value >= 0.9995 && value < 1 ? value.toFixed(6) : value.toFixed(4));

function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

const items = new Map(data.items.map(([id, ...shown]) => [id, shown]));

// An item by its id, with its texts and its picture where the page has them.
function itemIn(cell, id) {
  const [text, picture] = items.get(id) ?? [];
  const made = element("div", "", { class: "item" });
  if (picture) made.append(element("img", "", { src: picture, alt: "", loading: "lazy" }));
  const words = element("span", id);
  if (text) words.append(element("small", ` ${text}`));
  made.append(words);
  cell.append(made);
}

function fill(select, names, start = 0) {
  select.replaceChildren(...names.map((name, index) => element("option", name, { value: index })));
  select.selectedIndex = start;
}

// The command ---------------------------------------------------------------------------------------------------

for (const button of document.querySelectorAll(".copy"))
  button.addEventListener("click", () => {
    const code = button.parentElement.querySelector("code");
    getSelection().selectAllChildren(code); // whoever's browser does not copy by itself sees what to copy
    navigator.clipboard?.writeText(code.textContent).then(() => (button.textContent = "Copied"), () => {});
  });

// The threshold ------------------------------------------------------------------------------------------------

const slider = byId("slider");
let chart = null;
const method = () => data.methods[byId("method").selectedIndex];
const view = () => method().views[byId("view").selectedIndex];

function showView() {
  const { chosen, thresholds } = view();
  slider.max = thresholds.length - 1;
  for (const [name, { text }] of Object.entries(chosen)) byId(`go-${name}`).querySelector("span").textContent = text;
  slider.value = chosen.intersection.index;
  showCurves();
  showThreshold();
}

function showThreshold() {
  const now = view();
  const index = Number(slider.value);
  const text = now.thresholds[index];
  byId("threshold-value").textContent = text;
  slider.setAttribute("aria-valuetext", text);
  for (const name of SHARES) byId(name).textContent = now[name]?.[index] >= 0 ? percent(now[name][index]) : "–";
  const [low, high] = [now.low, now.high].map((ends) => ends && (ends[index] / 100).toFixed(0));
  byId("none-few").textContent = now.few ? `of ${now.few} rows, 95 % interval ${low} to ${high} %` : "";
  byId("labelling").textContent = count(now.labelling[index]);
  byId("rows").textContent = count(now.rows);
  for (const [name, place] of Object.entries(now.chosen))
    byId(`go-${name}`).setAttribute("aria-pressed", String(place.index === index));
  showExamples(Number(text));
  if (chart) chart.signal("threshold", Number(text)).runAsync();
}

function showExamples(threshold) {
  const number = byId("view").selectedIndex - (method().views.length - method().examples.length);
  const items = method().examples[Math.max(number, 0)];
  byId("examples-of").textContent = `${method().name}, ${data.trials[Math.max(number, 0)]}`;
  const first = items.findIndex((item) => item[4] > threshold);
  const middle = first < 0 ? items.length : first;
  const near = items.slice(Math.max(middle - 6, 0), middle + 6).reverse();
  byId("examples").tBodies[0].replaceChildren(
    ...near.map(([id, label, known, predicted, value]) => {
      const accepted = value > threshold;
      const row = element("tr", "", accepted ? {} : { class: "rejected" });
      const decision = accepted ? (known && label === predicted ? "right" : "wrong") : known ? "rejected" : "rejected, rightly";
      row.append(element("td", ""));
      itemIn(row.cells[0], id);
      row.append(...[known ? label : `${label} (“none”)`, predicted, confidence(value), decision].map((text) => element("td", text)));
      return row;
    }),
  );
}

function outcomeRows() {
  const now = view();
  return ["known", "none", "overall", "coverage"].flatMap((series) =>
    (now[series] ?? []).map((units, index) => ({ x: Number(now.thresholds[index]), series, value: units / 10000 })),
  );
}

function showCurves() {
  if (chart) chart.data("outcome", outcomeRows());
}

function step(name) {
  slider.value = view().chosen[name].index;
  showThreshold();
}

fill(byId("method"), data.methods.map(({ name }) => name), data.start);
fill(byId("view"), method().views.map(({ name }) => name));
byId("method").addEventListener("change", showView);
byId("view").addEventListener("change", showView);
slider.addEventListener("input", showThreshold);
for (const name of Object.keys(view().chosen)) byId(`go-${name}`).addEventListener("click", () => step(name));
showView();

// Classes ------------------------------------------------------------------------------------------------------

const classMethod = byId("class-method");
const heads = [...byId("class-table").tHead.querySelectorAll("th")];
let sorted = { column: 3, sign: 1 };

function showClasses() {
  const { column, sign } = sorted;
  const order = (a, b) => (typeof a === "string" ? a.localeCompare(b) : a - b);
  const rows = [...data.methods[classMethod.selectedIndex].classes].sort((a, b) => sign * order(a[column], b[column]));
  byId("class-table").tBodies[0].replaceChildren(
    ...rows.map(([name, support, training, accuracy, certainty, precision, few]) => {
      const row = element("tr", "");
      row.append(element("th", name, { scope: "row" }), element("td", count(support)), element("td", count(training)));
      row.append(element("td", accuracy.toFixed(4) + few));
      row.append(...[certainty, precision].map((value) => element("td", value.toFixed(4))));
      return row;
    }),
  );
  heads.forEach((head, index) => {
    if (index === column) head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    else head.removeAttribute("aria-sort");
  });
}

function showConfusions() {
  const { name, confusions } = data.methods[classMethod.selectedIndex];
  byId("confusions-of").textContent = name;
  byId("confusion-table").tBodies[0].replaceChildren(
    ...confusions.map(([label, known, said, times, ids]) => {
      const row = element("tr", "");
      row.append(element("td", known ? label : `${label} (“none”)`), element("td", said), element("td", count(times)), element("td", ""));
      for (const id of ids) itemIn(row.lastElementChild, id);
      return row;
    }),
  );
}

for (const button of byId("class-table").querySelectorAll("button"))
  button.addEventListener("click", () => {
    const column = Number(button.dataset.column);
    sorted = { column, sign: column === sorted.column ? -sorted.sign : 1 };
    showClasses();
  });
fill(classMethod, data.methods.map(({ name }) => name), data.start);
for (const show of [showClasses, showConfusions]) {
  classMethod.addEventListener("change", show);
  show();
}

// Downloads ----------------------------------------------------------------------------------------------------

// A cell that a spreadsheet would take for a formula is made text; numbers with a sign stay numbers.
const cell = (text) => `"${text.replace(/^(?=[=@\t\r]|[+-](?![\d.]))/, "'").replaceAll('"', '""')}"`;

function download(table, name) {
  const lines = [...table.rows].map((row) => [...row.cells].map(({ textContent }) => cell(textContent.trim())).join(","));
  const address = URL.createObjectURL(new Blob(["\ufeff", lines.join("\r\n")], { type: "text/csv" }));
  element("a", "", { href: address, download: `${name}.csv` }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

for (const button of document.querySelectorAll(".csv"))
  button.addEventListener("click", () => {
    download(button.closest("p, .controls").nextElementSibling.querySelector("table"), button.dataset.file);
  });

// Charts -------------------------------------------------------------------------------------------------------

const outcome = { ...data.outcomeChart, datasets: { outcome: outcomeRows() } };
chart = (await embed(byId("outcome-chart"), outcome)).view;
showThreshold();
for (const place of document.querySelectorAll("[data-panel]")) await embed(place, data.panels[place.dataset.panel]);
document.documentElement.dataset.ready = "true";
