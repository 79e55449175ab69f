"use strict";
// From the state to what is seen: draws at most once a frame, and unpacks only what is shown.

function change(settings) {
  Object.assign(state, settings);
  draw();
}

function activate(index) {
  state.active = index;
  draw();
}

function hover(query) {
  hovered = query;
  draw();
}

function pin(query) {
  hovered = null;
  state.query = query;
  draw();
}

/** The patch of the guide's grid under the pointer. */
function queryAt(event) {
  const box = event.currentTarget.getBoundingClientRect(), { rows, columns } = guideGrid();
  const share = (at, start, size) => Math.min(0.9999, Math.max(0, (at - start) / size));
  return {
    row: Math.floor(rows * share(event.clientY, box.top, box.height)),
    column: Math.floor(columns * share(event.clientX, box.left, box.width)),
  };
}

function draw() {
  if (queued) return;
  queued = true;
  requestAnimationFrame(() => {
    queued = false;
    drawNow().catch((problem) => report(problem));
  });
}

async function drawNow() {
  const turn = ++drawing;
  forgetOthers(state.image);
  drawTools();
  const shown = models.filter((index) => state.compare || index === state.active);
  for (const index of models) panels[index].root.hidden = !shown.includes(index);
  for (const index of shown) drawFrame(index);
  for (const index of shown) if (turn === drawing) await drawHeat(index, turn);
  for (const index of shown) if (turn === drawing) await drawTiles(index, turn);
  if (turn === drawing) document.documentElement.dataset.drawn = `${state.image} ${writeLink()}`;
}

function drawTools() {
  const pressed = (button, is) => button.setAttribute("aria-pressed", String(Boolean(is)));
  for (const name of ["compare", "shared", "plain", "letters"]) pressed(tools[name], state[name]);
  pictures.forEach((button, index) => pressed(button, index === state.image));
  pictureName.textContent = `Picture: ${content.images[state.image].name}`;
  tools.scheme.textContent = `Colors: ${state.scheme === "auto" ? "as the system" : state.scheme}`;
  tools.other.hidden = state.compare;
  tools.strength.value = state.strength;
  const root = document.documentElement;
  if (state.scheme === "auto") delete root.dataset.theme; else root.dataset.theme = state.scheme;
  const both = state.compare && models.length > 1, list = document.querySelector(".panels");
  list.className = `panels ${both ? "two" : "one"}${state.plain ? " plain" : ""}`;
}

/** All of a panel but what needs weights. */
function drawFrame(index) {
  const panel = panels[index], own = state.panels[index];
  const model = content.models[index], picture = content.images[state.image];
  panel.root.classList.toggle("active", index === state.active);
  if (panel.image.src !== picture.address) panel.image.src = picture.address;
  panel.image.className = Math.max(picture.height, picture.width) <= 64 ? "small" : "";
  panel.stage.style.aspectRatio = `${picture.width}/${picture.height}`;
  panel.stage.style.maxWidth = `${Math.round(560 * Math.min(1, picture.width / picture.height))}px`;
  panel.heat.style.opacity = state.strength / 100;
  panel.show.value = own.show;
  const isAttention = own.show === "attention", isMap = own.show.startsWith("map"), layer = model.layers[own.layer];
  panel.layer.value = own.layer + 1;
  panel.layerName.textContent = layer ? `${own.layer + 1} of ${model.layers.length}` : "none";
  panel.layer.disabled = isMap;
  panel.head.disabled = !isAttention;
  const heads = layer ? layer.heads : 0;
  if (panel.head.options.length !== heads + 1) {
    const options = [["mean", "mean of all"], ...[...Array(heads).keys()].map((head) => [head, head + 1])];
    panel.head.replaceChildren(...options.map(([value, text]) => element("option", { value, textContent: text })));
  }
  if (own.head !== "mean" && own.head >= heads) own.head = "mean";
  panel.head.value = own.head;
  const said = (model.predictions[state.image] || []).map(([name, share]) => `${name} ${percent(share)}`);
  panel.prediction.textContent = said.length ? `says: ${said.join(", ")}` : "";
  panel.all.hidden = !model.layers.length;
}

async function drawHeat(index, turn) {
  const panel = panels[index], own = state.panels[index], picture = content.images[state.image];
  const query = hovered || state.query || center();
  if (own.show.startsWith("map")) return drawMap(index, Number(own.show.slice(3)) - 1, query, turn);
  const isRollout = own.show === "rollout", kind = isRollout ? "rollout" : own.layer;
  const info = layerOf(index, kind), on = queryOn(info, query);
  const layer = await loadLayer(index, state.image, kind);
  if (turn !== drawing) return;
  drawTokens(index, info, isRollout ? own.layer : own.head, layer, on, query);
  if (!on) return drawNothing(panel, `${content.models[index].name} has no such token.`);
  const row = rowOf(layer, isRollout ? own.layer : own.head, on.token);
  const largest = state.shared && !isRollout ? await largestOfAll(index) : largestOf(row.patches);
  if (turn !== drawing) return;
  paint(panel.heat, row.patches, row.rows, row.columns, largest);
  drawMark(panel, on.place, row);
  const where = isRollout ? `Rollout through layer ${own.layer + 1}. ` : "";
  tell(panel, where + describe(row, on, index, picture));
  const unit = `share of attention, %${state.shared && !isRollout ? " (one scale for all heads)" : ""}`;
  drawTicks(panel, ["0", unit, percent(largest).replace("\u00a0%", "")]);
}

async function drawMap(index, place, query, turn) {
  const panel = panels[index], { name } = content.models[index].maps[place];
  const map = await loadMap(index, state.image, place);
  if (turn !== drawing) return;
  paint(panel.heat, map.values, map.rows, map.columns, 1);
  const on = query.prefix === undefined ? queryOn({ ...map, prefix: 0 }, query) : {};
  const patch = query.prefix === undefined ? query.row * guideGrid().columns + query.column : undefined;
  drawMark(panel, patch, guideGrid());
  const range = map.high - map.low;
  const number = (share) => {
    const value = map.low + share * range;
    return Math.abs(value) < range / 1000 ? "0" : value.toPrecision(2);
  };
  const at = (place) => placeName(place, map.columns);
  const here = on.place === undefined ? "" : ` Here, at ${at(on.place)}: ${number(map.values[on.place])}.`;
  const best = map.values.indexOf(largestOf(map.values));
  tell(panel, `${capital(name)}: largest at ${at(best)} of ${map.rows} rows and ${map.columns} columns.${here}`);
  drawTicks(panel, [number(0), name, number(1)]);
  panel.tokens.replaceChildren();
}

function drawNothing(panel, words) {
  paint(panel.heat, [], 1, 1, 1);
  panel.mark.hidden = true;
  tell(panel, words);
  drawTicks(panel, ["0", "share of attention, %", ""]);
}

function tell(panel, words) {
  panel.heat.setAttribute("aria-label", words);
  panel.says.textContent = words;
}

function drawTicks(panel, texts) {
  panel.ticks.replaceChildren(...texts.map((text) => element("span", { textContent: text })));
}

function drawMark(panel, place, { rows, columns }) {
  panel.mark.hidden = place === undefined;
  if (place === undefined) return;
  const style = panel.mark.style;
  style.left = `${((place % columns) / columns) * 100}%`;
  style.top = `${(Math.floor(place / columns) / rows) * 100}%`;
  style.width = `max(4px, ${100 / columns}%)`;
  style.height = `max(4px, ${100 / rows}%)`;
}

/** Buttons that make a prefix token the one that looks; each says what it gets of the present one's attention. */
function drawTokens(index, info, head, layer, on, query) {
  const row = on && rowOf(layer, head, on.token), names = content.models[index].prefix.slice(0, info.prefix);
  const known = panels[index].tokens.children;
  if (known.length !== names.length) {
    const choose = (prefix) => pin(state.query?.prefix === prefix ? null : { prefix });
    panels[index].tokens.replaceChildren(...names.map((_, prefix) => tool("", () => choose(prefix))));
  }
  names.forEach((name, prefix) => {
    known[prefix].textContent = row ? `${name}: gets ${percent(row.prefix[prefix])}` : name;
    known[prefix].setAttribute("aria-pressed", String(query.prefix === prefix));
  });
}

/** The largest share on a patch in any head of any layer, for this query. */
async function largestOfAll(index) {
  const { layers } = content.models[index];
  let largest = 0;
  for (const place of layers.keys()) {
    const layer = await loadLayer(index, state.image, place);
    const own = queryOn(layers[place], hovered || state.query || center());
    for (let head = 0; own && head < layer.heads; head++) {
      largest = Math.max(largest, layer.largest[head * (layer.numPrefix + layer.rows * layer.columns) + own.token]);
    }
  }
  return largest;
}

async function drawTiles(index, turn) {
  const { root, tiles } = panels[index].tiles, own = state.panels[index], query = hovered || state.query || center();
  if (!tiles.length) return;
  const shared = state.shared ? await largestOfAll(index) : 0;
  for (const { tile, canvas, layer: place, head } of tiles) {
    const info = layerOf(index, place), on = queryOn(info, query);
    const layer = await loadLayer(index, state.image, place);
    if (turn !== drawing) return;
    const isChosen = own.show === "attention" && place === own.layer && head === own.head;
    tile.setAttribute("aria-pressed", String(isChosen));
    tile.tabIndex = isChosen || (place === own.layer && head === 0 && own.head === "mean") ? 0 : -1;
    if (!on) { paint(canvas, [], 1, 1, 1); continue; }
    const row = rowOf(layer, head, on.token), best = row.patches.indexOf(largestOf(row.patches));
    paint(canvas, row.patches, row.rows, row.columns, shared || largestOf(row.patches));
    const most = `${percent(row.patches[best])} on ${placeName(best, row.columns)}`;
    tile.setAttribute("aria-label", `layer ${place + 1}, head ${head + 1}: most, ${most}`);
  }
  root.dataset.drawn = "true";
}
