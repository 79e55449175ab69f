"use strict";
// What one can do on the page: hide models, choose axes, sort tables, save a chart. The view stands in the address.

const view = { hidden: new Set(), x: "images", y: "error", logX: true, logY: false, beyond: false };
const content = JSON.parse(document.getElementById("chart-data").textContent);
const live = document.getElementById("live");
const charts = [];

function announce(words) {
  live.textContent = words;
}

function readAddress() {
  const asked = new URLSearchParams(location.hash.slice(1)), known = new Set(content.models.map((model) => `${model.id}`));
  view.hidden = new Set((asked.get("hide") || "").split(",").filter((id) => known.has(id)).map(Number));
  view.x = asked.get("x") in AXES ? asked.get("x") : "images";
  view.y = asked.get("y") in TARGETS ? asked.get("y") : "error";
  view.beyond = asked.get("beyond") === "yes";
  view.logX = asked.get("xscale") !== "linear";
  view.logY = asked.get("yscale") === "log";
}

function writeAddress() {
  const said = new URLSearchParams();
  if (view.hidden.size) said.set("hide", [...view.hidden].join(","));
  if (view.x !== "images") said.set("x", view.x);
  if (view.y !== "error") said.set("y", view.y);
  if (view.beyond) said.set("beyond", "yes");
  if (!view.logX) said.set("xscale", "linear");
  if (view.logY) said.set("yscale", "log");
  history.replaceState(null, "", `${location.pathname}${location.search}${said.size ? `#${said}` : ""}`);
}

function drawAll() {
  const initial = !view.hidden.size && view.x === "images" && view.y === "error" && view.logX && !view.logY && !view.beyond;
  for (const chart of charts) {
    chart.show(null);
    chart.draw();
  }
  for (const button of document.querySelectorAll(".controls button[data-model]"))
    button.setAttribute("aria-pressed", String(!view.hidden.has(Number(button.dataset.model))));
  document.documentElement.dataset.view = initial ? "initial" : "changed";
}

function change() {
  writeAddress();
  drawAll();
}

function control(tag, words, properties = {}) {
  return Object.assign(document.createElement(tag), { textContent: words, ...properties });
}

function addControls(place) {
  place.hidden = false;
  const models = control("div", "", { className: "models" });
  for (const model of content.models) {
    const button = control("button", model.name, { type: "button", className: `m${model.id % 6}` });
    button.dataset.model = model.id;
    button.addEventListener("click", () => {
      if (!view.hidden.delete(model.id)) view.hidden.add(model.id);
      change();
      announce(`${model.name} is ${view.hidden.has(model.id) ? "hidden" : "shown"}`);
    });
    models.append(button);
  }
  const models_of_all = content.charts.flatMap((chart) => chart.models), points = models_of_all.flatMap((model) => model.points);
  const choice = (name, options, is_known) => {
    const select = control("select", "", { name });
    for (const [value, words] of options) if (is_known(value)) select.append(control("option", words, { value }));
    select.addEventListener("change", () => { view[name] = select.value; change(); });
    return select;
  };
  const axis = choice("x", Object.entries(AXES), (name) => points.some((point) => point[name]));
  const targets = Object.entries(TARGETS).map(([name, { words }]) => [name, words]);
  const target = choice("y", targets, (name) => points.some((point) => point.targets[name]));
  const names = [["logX", "log"], ["logY", "log values"]];
  if (models_of_all.some((model) => Object.keys(model.beyond).length)) names.push(["beyond", "extrapolation"]);
  const boxes = names.map(([name, words]) => {
    const box = control("input", "", { type: "checkbox", name });
    box.addEventListener("change", () => { view[name] = box.checked; change(); });
    const label = control("label", "");
    label.append(box, ` ${words}`);
    return [name, box, label];
  });
  const across = control("label", "across: "), up = control("label", "show: ");
  across.append(axis);
  up.append(target);
  const save = control("button", "Save as SVG", { type: "button", className: "save" });
  save.addEventListener("click", () => charts.forEach((chart) => saveChart(chart)));
  place.append(models, up, across, ...boxes.map(([, , label]) => label), save);
  const follow = () => {
    axis.value = view.x;
    target.value = view.y;
    for (const [name, box] of boxes) box.checked = view[name];
  };
  follow();
  addEventListener("hashchange", () => { readAddress(); follow(); drawAll(); });
}

const LOOKS = [
  ...["fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-linecap", "stroke-linejoin"],
  ...["opacity", "font-size", "font-weight"],
];

// A file of its own has no style sheet: each mark takes its colors along, and the chart the ground it was drawn on.
function saveChart(chart) {
  const copy = chart.svg.cloneNode(true), before = chart.svg.querySelectorAll("*");
  copy.querySelectorAll("*").forEach((mark, index) => {
    const look = getComputedStyle(before[index]);
    for (const name of LOOKS) mark.style.setProperty(name, look.getPropertyValue(name));
  });
  const ground = element("rect", { class: "ground", width: WIDTH, height: HEIGHT });
  ground.style.fill = getComputedStyle(chart.svg.parentElement).backgroundColor;
  copy.prepend(ground);
  copy.style.fontFamily = "system-ui, sans-serif";
  copy.setAttribute("xmlns", SVG);
  const file = new Blob([new XMLSerializer().serializeToString(copy)], { type: "image/svg+xml" });
  const name = `${chart.data.task.replace(/[^\w-]+/g, "-")}.svg`;
  const link = control("a", "", { href: URL.createObjectURL(file), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

function openForPrint() {
  const closed = [...document.querySelectorAll("details:not([open])")];
  for (const part of closed) part.open = true;
  addEventListener("afterprint", () => closed.forEach((part) => { part.open = false; }), { once: true });
}

readAddress();
for (const data of content.charts) {
  const svg = document.querySelector(`svg[data-chart="${data.chart}"]`);
  if (svg) charts.push(new Chart(svg, data));
}
if (charts.length) addControls(document.querySelector(".controls"));
drawAll();
document.querySelectorAll("main table").forEach(makeSortable);
addEventListener("beforeprint", openForPrint);
document.documentElement.dataset.ready = "true";
