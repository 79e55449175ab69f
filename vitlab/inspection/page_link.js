"use strict";
// Keys, and the view in the address: whoever opens the same link sees the same patch, layer and head.

function step(list, value, by) {
  return list[(Math.max(0, list.indexOf(value)) + by + list.length) % list.length];
}

function stepHead(by) {
  const own = state.panels[state.active], layer = content.models[state.active].layers[own.layer];
  if (!layer) return;
  own.head = step(["mean", ...Array(layer.heads).keys()], own.head, by);
  own.show = "attention";
  draw();
}

function stepLayer(by) {
  const own = state.panels[state.active], last = content.models[state.active].layers.length - 1;
  own.layer = Math.min(last, Math.max(0, own.layer + by));
  draw();
}

function stepToken() {
  const count = content.models[guide].prefix.length, now = state.query?.prefix;
  if (now === undefined) stepToken.patch = state.query;
  const next = now === undefined ? 0 : now + 1;
  pin(next < count ? { prefix: next } : stepToken.patch || null);
}

function stepPatch(down, right) {
  const { rows, columns } = guideGrid(), at = state.query?.row === undefined ? center() : state.query;
  const inside = (value, size) => Math.min(size - 1, Math.max(0, value));
  pin({ row: inside(at.row + down, rows), column: inside(at.column + right, columns) });
}

const ARROWS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
const LETTERS = {
  "[": () => stepLayer(-1),
  "]": () => stepLayer(1),
  ",": () => stepHead(-1),
  ".": () => stepHead(1),
  m: () => { state.panels[state.active].head = "mean"; draw(); },
  t: stepToken,
  v: () => {
    const shows = [...panels[state.active].show.options].map((option) => option.value);
    state.panels[state.active].show = step(shows, state.panels[state.active].show, 1);
    draw();
  },
  n: () => change({ image: step([...content.images.keys()], state.image, 1) }),
  p: () => change({ image: step([...content.images.keys()], state.image, -1) }),
  c: () => change({ compare: models.length > 1 && !state.compare }),
  x: () => change({ active: models.length - 1 - state.active }),
  s: () => change({ shared: !state.shared }),
  i: () => change({ plain: !state.plain }),
  d: () => tools.scheme.click(),
};

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "SELECT") return;
  const arrow = event.target.className === "stage" && ARROWS[event.key];
  const letter = state.letters && LETTERS[event.key.toLowerCase()];
  if (!arrow && !letter) return;
  event.preventDefault();
  if (arrow) stepPatch(...arrow);
  else letter();
}

// --- the link --------------------------------------------------------------------------------------------------------

/** Write the view into the address, and return it. Numbers count from 1, as on the page. */
function writeLink() {
  const query = state.query || center();
  const parts = new URLSearchParams({
    image: state.image + 1,
    query: query.prefix === undefined ? `r${query.row + 1}c${query.column + 1}` : `t${query.prefix + 1}`,
  });
  state.panels.forEach((own, index) => {
    const head = own.head === "mean" ? "mean" : own.head + 1;
    parts.set(`model${index + 1}`, `${own.show}.${own.layer + 1}.${head}`);
  });
  if (models.length > 1) parts.set("see", state.compare ? "both" : state.active + 1);
  if (state.shared) parts.set("scale", "same");
  if (state.plain) parts.set("heat", "none");
  else if (state.strength !== 75) parts.set("heat", state.strength);
  if (state.scheme !== "auto") parts.set("colors", state.scheme);
  const link = `#${parts}`;
  if (inFrame || link === location.hash) return link;
  tools.link.href = link;
  try {
    history.replaceState(null, "", link);
  } catch {
    // Some browsers refuse this to a file from disk; the link under the picture still brings the view back.
  }
  return link;
}

function copyLink() {
  const said = (words) => { tools.link.textContent = words; };
  // Not every browser lets a page from disk copy; the address bar holds the same link.
  const copied = navigator.clipboard?.writeText(location.href);
  copied?.then(() => said("Link copied"), () => said("The link is in the address bar"));
}

/** Take the view from the address; whatever is missing, or names nothing that is here, stays as it is. */
function readLink() {
  const parts = new URLSearchParams(location.hash.slice(1));
  const number = (text, count) => (/^\d+$/.test(text ?? "") && text >= 1 && text <= count ? text - 1 : null);
  state.image = number(parts.get("image"), content.images.length) ?? state.image;
  const place = /^r(\d+)c(\d+)$/.exec(parts.get("query") ?? ""), token = /^t(\d+)$/.exec(parts.get("query") ?? "");
  const { rows, columns } = guideGrid();
  if (place && number(place[1], rows) !== null && number(place[2], columns) !== null) {
    state.query = { row: place[1] - 1, column: place[2] - 1 };
  } else if (token && number(token[1], content.models[guide].prefix.length) !== null) {
    state.query = { prefix: token[1] - 1 };
  }
  state.panels.forEach((own, index) => {
    const [show, layer, head] = (parts.get(`model${index + 1}`) ?? "").split(".");
    const { layers } = content.models[index];
    if ([...panels[index].show.options].some((option) => option.value === show)) own.show = show;
    own.layer = number(layer, layers.length) ?? own.layer;
    own.head = number(head, layers[own.layer]?.heads ?? 0) ?? "mean";
  });
  const see = parts.get("see");
  if (models.length > 1 && see) state.compare = see === "both";
  state.active = number(see, models.length) ?? state.active;
  state.shared = parts.get("scale") === "same";
  state.plain = parts.get("heat") === "none";
  const strength = Number(parts.get("heat"));
  if (strength >= 20 && strength <= 100) state.strength = strength;
  if (SCHEMES.includes(parts.get("colors"))) state.scheme = parts.get("colors");
}

function report(problem) {
  const old = typeof DecompressionStream === "undefined";
  const words = old ? "This browser is too old to unpack the maps; use one of 2023 or later." : problem.message;
  document.querySelector("main").prepend(element("p", { className: "problem", role: "alert", textContent: words }));
}

readLink();
build();
drawTools();
for (const index of models) drawFrame(index);
// The weights stand below this script in the file: the page is painted first, and reads them when they are all there.
document.addEventListener("DOMContentLoaded", draw);
