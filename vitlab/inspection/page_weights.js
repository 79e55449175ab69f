"use strict";
// Unpacks what page_data.py has packed, and says in words what a row of attention holds. Touches no element but the
// blocks that it reads.

const content = JSON.parse(document.getElementById("content").textContent);
const unpacked = new Map(); // by block, of the picture that is shown alone: all pictures would fill a phone's memory
const COLORS = Uint8Array.from(content.colors.match(/../g), (pair) => parseInt(pair, 16));

async function inflate(id) {
  const packed = Uint8Array.from(atob(document.getElementById(id).textContent), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

function once(id, make) {
  if (!unpacked.has(id)) unpacked.set(id, inflate(id).then(make));
  return unpacked.get(id);
}

function forgetOthers(image) {
  for (const id of unpacked.keys()) if (id.split("-")[2] !== String(image)) unpacked.delete(id);
}

/** The grid of a layer; that of the first stands for rollout. */
function layerOf(model, layer) {
  const of = content.models[model];
  return layer === "rollout" ? { ...of.layers[0], heads: of.layers.length } : of.layers[layer];
}

/** A layer's attention in one picture: {largest, prefix, levels} of all heads and tokens, still rounded. */
function loadLayer(model, image, layer) {
  const { heads, rows, columns, prefix } = layerOf(model, layer);
  return once(`w-${model}-${image}-${layer}`, (buffer) => {
    const lines = heads * (prefix + rows * columns);
    return {
      ...{ heads, rows, columns, numPrefix: prefix, steps: content.models[model].levels[image] },
      largest: new Float32Array(buffer, 0, lines),
      prefix: new Uint16Array(buffer, 4 * lines, lines * prefix),
      levels: new Uint8Array(buffer, 4 * lines + 2 * lines * prefix),
    };
  });
}

/** An extra map over one picture, 0 to 1. */
function loadMap(model, image, place) {
  const { rows, columns } = content.models[model].maps[place];
  const [low, high] = content.models[model].ranges[image][place];
  return once(`m-${model}-${image}-${place}`, (buffer) => {
    return { rows, columns, low, high, values: Float32Array.from(new Uint8Array(buffer), (level) => level / 255) };
  });
}

/** Where a token looks, as shares: {patches, prefix}; head "mean" is the mean of all heads. */
function rowOf(layer, head, token) {
  const numPatches = layer.rows * layer.columns, tokens = layer.numPrefix + numPatches;
  const patches = new Float32Array(numPatches), prefix = new Float32Array(layer.numPrefix);
  const heads = head === "mean" ? [...Array(layer.heads).keys()] : [head];
  for (const one of heads) {
    const line = one * tokens + token, scale = layer.largest[line] / heads.length / layer.steps ** 2;
    for (let key = 0; key < numPatches; key++) patches[key] += scale * layer.levels[line * numPatches + key] ** 2;
    for (let key = 0; key < prefix.length; key++) {
      prefix[key] += layer.prefix[line * prefix.length + key] / 65535 / heads.length;
    }
  }
  return { patches, prefix, rows: layer.rows, columns: layer.columns };
}

function largestOf(values) {
  let largest = 0;
  for (const value of values) if (value > largest) largest = value;
  return largest;
}

/** Paint values into a canvas, one pixel a patch, the largest in the last color. */
function paint(canvas, values, rows, columns, largest) {
  if (canvas.width !== columns || canvas.height !== rows) [canvas.width, canvas.height] = [columns, rows];
  const brush = canvas.getContext("2d"), picture = brush.createImageData(columns, rows);
  for (let place = 0; place < values.length; place++) {
    const color = 3 * Math.round(255 * Math.min(1, values[place] / (largest || 1)));
    picture.data.set(COLORS.subarray(color, color + 3), 4 * place);
    picture.data[4 * place + 3] = 255;
  }
  brush.putImageData(picture, 0, 0);
}

function percent(share) {
  const digits = share >= 0.0995 || !share ? 0 : share >= 0.00995 ? 1 : 2;
  return `${(100 * share).toFixed(digits)}\u00a0%`; // no line break before the sign
}

const called = (name) => (/\d$/.test(name) ? name : `the ${name}`); // the class token, but register 2
const capital = (words) => words[0].toUpperCase() + words.slice(1);
const placeName = (place, columns) => `row ${Math.floor(place / columns) + 1}, column ${(place % columns) + 1}`;

function listing(parts) {
  return parts.length < 2 ? parts.join("") : `${parts.slice(0, -1).join(", ")} and ${parts[parts.length - 1]}`;
}

/** The places with the largest values, largest first. */
function bestPlaces(values, count) {
  const order = [...values.keys()].sort((one, other) => values[other] - values[one]);
  return order.slice(0, count).filter((place) => values[place] > 0);
}

/** The mean distance of what a patch looks at, in pixels of the picture; prefix tokens sit nowhere and do not count. */
function meanDistance(row, place, picture) {
  const tall = picture.height / row.rows, wide = picture.width / row.columns;
  let total = 0, sum = 0;
  row.patches.forEach((share, key) => {
    const down = Math.floor(key / row.columns) - Math.floor(place / row.columns);
    const across = (key % row.columns) - (place % row.columns);
    total += share;
    sum += share * Math.hypot(down * tall, across * wide);
  });
  return total ? sum / total : 0;
}

/** Say where a token looks. `query` is {prefix: number} or {place: number}. */
function describe(row, query, model, picture) {
  const names = content.models[model].prefix;
  const isPatch = query.place !== undefined;
  const subject = isPatch ? `Patch ${placeName(query.place, row.columns)}` : capital(called(names[query.prefix]));
  const best = bestPlaces(row.patches, 3);
  const others = names.slice(0, row.prefix.length).map((name, index) => {
    return `${percent(row.prefix[index])} on ${!isPatch && index === query.prefix ? "itself" : called(name)}`;
  });
  const more = `${percent(sumOf(row.prefix.slice(1)))} on the ${others.length - 1} other tokens without a place`;
  const shown = others.length > 2 ? [others[0], more] : others;
  if (!best.length && !sumOf(row.prefix)) return `${subject} looks at nothing.`;
  const places = best.map((place) => {
    const own = place === query.place ? ", itself" : "";
    return `${placeName(place, row.columns)} (${percent(row.patches[place])}${own})`;
  });
  const itself = isPatch && !best.includes(query.place) ? [`${percent(row.patches[query.place])} on itself`] : [];
  const rest = [...itself, ...shown];
  const tail = rest.length ? ` ${rest.join(", ")}.` : "";
  const far = isPatch ? ` Mean distance ${meanDistance(row, query.place, picture).toPrecision(2)} px.` : "";
  return `${subject} looks mostly at ${listing(places) || "no patch"}.${tail}${far}`;
}

function sumOf(values) {
  return values.reduce((sum, value) => sum + value, 0);
}
