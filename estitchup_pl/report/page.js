const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const SHARES = ["known", "none", "overall", "coverage"];

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
    for (const name of [...SHARES, "labelling"]) view[name] = running(view[name]);
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
  for (const name of SHARES) byId(name).textContent = now[name] ? percent(now[name][index]) : "–";
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
      row.append(...[id, known ? label : `${label} (“none”)`, predicted, confidence(value), decision].map((text) => element("td", text)));
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
    ...rows.map(([name, support, training, ...values]) => {
      const row = element("tr", "");
      row.append(element("th", name, { scope: "row" }), element("td", count(support)), element("td", count(training)));
      row.append(...values.map((value) => element("td", value.toFixed(4))));
      return row;
    }),
  );
  heads.forEach((head, index) => {
    if (index === column) head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    else head.removeAttribute("aria-sort");
  });
}

for (const button of byId("class-table").querySelectorAll("button"))
  button.addEventListener("click", () => {
    const column = Number(button.dataset.column);
    sorted = { column, sign: column === sorted.column ? -sorted.sign : 1 };
    showClasses();
  });
fill(classMethod, data.methods.map(({ name }) => name), data.start);
classMethod.addEventListener("change", showClasses);
showClasses();

// Charts -------------------------------------------------------------------------------------------------------

const outcome = { ...data.outcomeChart, datasets: { outcome: outcomeRows() } };
chart = (await embed(byId("outcome-chart"), outcome)).view;
showThreshold();
for (const place of document.querySelectorAll("[data-panel]")) await embed(place, data.panels[place.dataset.panel]);
document.documentElement.dataset.ready = "true";
