"use strict";
// What the reader touches: pictures, panels of one or two models, keys, and a link that brings a view back.

const SCHEMES = ["auto", "dark", "light"];
const inFrame = location.protocol === "about:"; // a notebook's cell: its address is not ours to write
const models = content.models.map((_, index) => index);
const guide = Math.max(0, content.models.findIndex((model) => model.layers.length)); // whose grid the query moves on
const state = {
  ...{ image: 0, query: null, active: guide, compare: models.length > 1, shared: false, plain: false },
  ...{ strength: 75, scheme: "auto", letters: true },
  panels: content.models.map((model) => ({
    show: model.layers.length ? "attention" : "map1", layer: model.layers.length - 1, head: "mean",
  })),
};
let hovered = null, queued = false, drawing = 0;

function element(tag, settings = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(settings)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name in made && name !== "style") made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

// --- the query: a patch, as row and column of the guide's grid, or a prefix token ------------------------------------

/** The finest grid of the model that guides. */
function guideGrid() {
  const { layers, maps } = content.models[guide];
  const size = (grid) => grid.rows * grid.columns;
  return (layers.length ? layers : maps).reduce((best, grid) => (size(grid) > size(best) ? grid : best));
}

/** The same query on another grid, or null where a model has no such token. */
function queryOn(layer, query) {
  const { prefix } = query;
  if (prefix !== undefined) return prefix < layer.prefix ? { prefix, token: prefix } : null;
  const { rows, columns } = guideGrid();
  const row = Math.floor(((query.row + 0.5) / rows) * layer.rows);
  const column = Math.floor(((query.column + 0.5) / columns) * layer.columns);
  const place = row * layer.columns + column;
  return { place, token: (layer.prefix || 0) + place };
}

function center() {
  const { rows, columns } = guideGrid();
  return { row: Math.floor(rows / 2), column: Math.floor(columns / 2) };
}

// --- what is on the page ---------------------------------------------------------------------------------------------

function makePanel(index) {
  const model = content.models[index], own = state.panels[index], parts = {};
  const set = (name, value) => { own[name] = value; activate(index); };
  const shows = [
    ...(model.layers.length ? [["attention", "attention"]] : []),
    ...(model.rollout ? [["rollout", "rollout up to this layer"]] : []),
    ...model.maps.map((map, place) => [`map${place + 1}`, map.name]),
  ];
  const options = (pairs) => pairs.map(([value, text]) => element("option", { value, textContent: text }));
  parts.show = element("select", { onchange: (event) => set("show", event.target.value) }, ...options(shows));
  parts.head = element("select", { onchange: (event) => set("head", headFrom(event.target.value)) });
  parts.layer = element("input", {
    ...{ type: "range", min: 1, max: Math.max(1, model.layers.length) },
    oninput: (event) => set("layer", event.target.value - 1),
  });
  parts.layerName = element("output");
  parts.image = element("img", { alt: "" });
  parts.heat = element("canvas", { role: "img" });
  parts.mark = element("div", { className: "mark" });
  parts.stage = element(
    "div",
    {
      className: "stage", tabIndex: 0, role: "application",
      onpointermove: (event) => event.pointerType !== "touch" && hover(queryAt(event)),
      onpointerleave: () => hover(null),
      onclick: (event) => { pin(queryAt(event)); activate(index); },
      onfocus: () => state.active !== index && activate(index),
    },
    parts.image, parts.heat, parts.mark,
  );
  parts.stage.setAttribute("aria-label", `${model.name}: picture; arrow keys choose the patch that looks`);
  [parts.scale, parts.ticks] = [element("div"), element("p")];
  parts.says = element("p", { className: "says", "aria-live": "polite" });
  parts.tokens = element("div", { className: "tokens", role: "group", "aria-label": "tokens without a place" });
  parts.prediction = element("p", { className: "soft" });
  parts.tiles = makeTiles(index);
  const label = (name, control, ...more) => element("label", {}, name, ...more, control);
  parts.choices = element("div", { className: "choices" }, label("Show", parts.show));
  if (model.layers.length) {
    parts.choices.append(label("Head", parts.head),
      element("div", { className: "layer" }, label("Layer ", parts.layer, parts.layerName)));
  }
  const all = "All heads, for this patch or token: a row a layer, a column a head";
  parts.all = element("div", {}, element("h3", { textContent: all }), parts.tiles.root);
  parts.root = element("section", { className: "panel", "aria-label": model.name },
    element("div", { className: "head" }, element("h2", { textContent: model.name }), parts.prediction),
    element("div", {}, parts.choices, parts.stage, element("div", { className: "bar" }, parts.scale, parts.ticks)),
    element("div", {}, parts.says, parts.tokens, parts.all));
  return parts;
}

function makeTiles(index) {
  const { layers } = content.models[index], tiles = [];
  const most = Math.max(1, ...layers.map((layer) => layer.heads));
  const root = element("div", { className: "tiles", role: "group", "aria-label": "all layers and heads" });
  root.style.setProperty("--heads", most);
  root.append(element("span"), ...[...Array(most).keys()].map((head) => element("span", { textContent: head + 1 })));
  layers.forEach((layer, place) => {
    root.append(element("span", { textContent: place + 1 }));
    for (let head = 0; head < most; head++) {
      const canvas = element("canvas");
      const onclick = () => {
        Object.assign(state.panels[index], { layer: place, head, show: "attention" });
        activate(index);
      };
      const tile = element("button", { type: "button", tabIndex: -1, onclick }, canvas);
      tile.style.setProperty("--shape", `${layer.columns}/${layer.rows}`);
      tile.style.visibility = head < layer.heads ? "visible" : "hidden";
      if (head < layer.heads) tiles.push({ tile, canvas, layer: place, head });
      root.append(tile);
    }
  });
  return { root, tiles };
}

const headFrom = (text) => (text === "mean" ? "mean" : Number(text));
const panels = models.map(makePanel);
const tool = (text, onclick, more = {}) => element("button", { type: "button", textContent: text, onclick, ...more });
const tools = {
  compare: tool("Compare", () => change({ compare: !state.compare })),
  other: tool("Other model", () => change({ active: 1 - state.active })),
  shared: tool("Same scale", () => change({ shared: !state.shared })),
  plain: tool("Picture alone", () => change({ plain: !state.plain })),
  scheme: tool("", () => change({ scheme: SCHEMES[(SCHEMES.indexOf(state.scheme) + 1) % SCHEMES.length] })),
  letters: tool("Letter keys", () => change({ letters: !state.letters })),
  link: element("a", { textContent: "Link to this view", href: "#", onclick: () => copyLink() }),
  strength: element("input", {
    ...{ type: "range", min: 20, max: 100 }, oninput: (event) => change({ strength: Number(event.target.value) }),
  }),
};
const pictures = content.images.map((image, index) =>
  element("button", { type: "button", title: image.name, onclick: () => change({ image: index }) },
    element("img", { src: image.address, alt: "" }), element("span", { textContent: image.name })));
const pictureName = element("p", { className: "picture" });
const KEYS = [
  ["← ↑ → ↓", "another patch (while the picture has the focus)"], ["[ ]", "layer before, after"],
  [", .", "head before, after"], ["m", "mean of all heads"], ["t", "class token, registers, back to the patch"],
  ["v", "attention, rollout, other maps"], ["n p", "next, previous picture"], ["c", "compare: both models or one"],
  ["x", "the other model"], ["s", "one scale for all heads"], ["i", "picture alone"], ["d", "dark or light"],
];

function build() {
  const main = document.querySelector("main"), keys = element("dl", { className: "keys" });
  for (const [names, does] of KEYS) {
    const caps = names.split(" ").map((name) => element("kbd", { textContent: name }));
    keys.append(element("dt", {}, ...caps.flatMap((cap) => [cap, " "])), element("dd", { textContent: does }));
  }
  const two = models.length > 1 ? [tools.compare, tools.other] : [];
  main.append(
    element("p", { className: "soft", textContent: "Point at a patch to see where it looks; click or tap keeps it." }),
    pictureName,
    element("details", {}, element("summary", { textContent: "Keys" }), keys, tools.letters),
    element("nav", { className: "pictures", "aria-label": "pictures", hidden: pictures.length < 2 }, ...pictures),
    element("div", { className: "tools" }, ...two, tools.shared, tools.plain, tools.scheme,
      element("label", { className: "strength" }, "Heat", tools.strength), tools.link),
    element("div", { className: "panels" }, ...panels.map((panel) => panel.root)),
  );
  tools.link.hidden = inFrame;
  document.querySelector("footer").append(...notes().map((text) => element("p", { textContent: text })));
  for (const panel of panels) panel.scale.style.background = `linear-gradient(90deg,${gradient()})`;
  document.addEventListener("keydown", onKey);
  addEventListener("hashchange", () => { readLink(); draw(); });
}

function gradient() {
  const steps = [...Array(17).keys()].map((step) => 3 * Math.min(255, step * 16));
  return steps.map((at) => `rgb(${COLORS.subarray(at, at + 3).join(",")})`).join(",");
}

function notes() {
  const rounded = content.models.filter((model) => model.levels.length).map((model) =>
    `${model.name}: ${Math.min(...model.levels)} levels, no share off by more than ` +
    `${(100 * model.error).toPrecision(2)} percentage points`);
  return [
    "A map shows the shares of one token's attention; with those on tokens without a place they add up to 100 %.",
    ...(rounded.length ? [`Shares are rounded to keep this file small (${rounded.join("; ")}).`] : []),
    ...(content.stretched ? ["The range of the pictures is unknown: white is the greatest number of each."] : []),
    "Attention says where a token gathers from, not why the model decides as it does.",
  ];
}
