"use strict";
// One chart: the curves that Python has drawn, drawn again in their place for other axes and fewer models.

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 400, HEIGHT = 300, LEFT = 36, TOP = 32, BOTTOM = 256;
const AXES = {
  images: "training images",
  examples: "examples seen in training",
  macs: "multiply-accumulates of the training",
  seconds: "seconds of training",
  params: "parameters, at the largest size",
};
// What the axis of values may show; "tell" writes one value.
const TARGETS = {
  error: { words: "test error", unit: "%", factor: 100, tell: (value) => `${percent(value)} error` },
  nll: { words: "test NLL", unit: "nats", factor: 1, tell: (value) => `NLL ${+value.toPrecision(3)}` },
  calibration_error: { words: "calibration error", unit: "%", factor: 100, tell: (value) => `calibration error ${percent(value)}` },
};
const SHAPES = {
  circle: (x, y) => `M${x - 4.4} ${y}a4.4 4.4 0 1 0 8.8 0a4.4 4.4 0 1 0 -8.8 0Z`,
  square: (x, y) => `M${x - 4} ${y - 4}h8v8h-8Z`,
  triangle: (x, y) => `M${x} ${y - 5.2}l5 8.8h-10Z`,
  diamond: (x, y) => `M${x} ${y - 5.4}l5.4 5.4l-5.4 5.4l-5.4 -5.4Z`,
};

function element(name, attributes = {}, text = "", parent = null) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text) made.textContent = text;
  parent?.append(made);
  return made;
}

function brief(value) {
  for (const [unit, size] of [["P", 1e15], ["T", 1e12], ["G", 1e9], ["M", 1e6]])
    if (value >= size) return `${+(value / size).toPrecision(3)} ${unit}`;
  return value >= 1000 ? Math.round(value).toLocaleString("en-US") : `${+value.toPrecision(3)}`;
}

function percent(error) {
  return `${(100 * error).toFixed(1)}\u202f%`;
}

// Round numbers inside a range: equal steps, or decades with as many between them as there is room for.
function roundNumbers(low, high, logarithmic, most) {
  const between = (step) => {
    const found = [];
    for (let value = Math.ceil(low / step) * step; value <= high * 1.0001; value += step) found.push(+value.toPrecision(12));
    return found;
  };
  if (!logarithmic) {
    const rough = (high - low) / most, unit = 10 ** Math.floor(Math.log10(rough));
    return between(unit * [1, 2, 5, 10].find((step) => step * unit >= rough));
  }
  const decades = (digits) => {
    const found = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++)
      for (const digit of digits) found.push(+(digit * 10 ** power).toPrecision(12));
    return found.filter((value) => value >= low && value <= high);
  };
  const choices = [[1, 1.5, 2, 3, 4, 5, 7], [1, 2, 3, 5, 7], [1, 2, 5], [1]].map(decades);
  return choices.find((found) => found.length <= most + 1) || choices.at(-1);
}

// Where values lie on the drawing, and which of them are named.
function scale(values, logarithmic, from, to, { zero = false, named = null, most = 6 } = {}) {
  const shown = logarithmic ? values.filter((value) => value > 0) : values;
  let low = Math.min(...shown), high = Math.max(...shown);
  if (logarithmic && !shown.length) [low, high] = [0.1, 1]; // nothing but zeros: they all lie on the lower edge
  if (logarithmic) {
    const air = Math.max((high / low) ** 0.05, 1.12);
    [low, high] = [low / air, high * air];
  } else {
    const air = zero ? 0.04 : 0.05;
    const span = high - low || high || 1;
    [low, high] = [zero ? 0 : low - air * span, high + air * span];
  }
  const bend = logarithmic ? Math.log : (value) => value;
  const share = (value) => (bend(Math.max(value, logarithmic ? low : -Infinity)) - bend(low)) / (bend(high) - bend(low));
  const place = (value) => +(from + Math.min(1, Math.max(0, share(value))) * (to - from)).toFixed(2);
  const ticks = (named || roundNumbers(low, high, logarithmic, most)).filter((value) => value >= low && value <= high);
  return { place, ticks, low, high };
}

// Of neighbors whose names would run into each other, the first stays; the last always does.
function apart(ticks, place, room) {
  const kept = [];
  for (const tick of ticks) if (!kept.length || Math.abs(place(tick) - place(kept.at(-1))) >= room) kept.push(tick);
  return kept;
}

class Chart {
  constructor(svg, data) {
    this.svg = svg;
    this.data = data;
    this.at = null; // [model, point] that is read out
    this.tip = document.createElement("div");
    this.tip.className = "tip";
    this.tip.hidden = true;
    svg.parentElement.append(this.tip);
    this.words = [...svg.querySelectorAll(":scope > title, :scope > desc")];
    svg.tabIndex = 0;
    svg.setAttribute("role", "application");
    svg.setAttribute("aria-roledescription", "chart; arrow keys go from point to point");
    for (const kind of ["pointermove", "pointerdown"])
      svg.addEventListener(kind, (event) => this.show(this.nearest(event)));
    // A finger leaves as soon as it is lifted: what it pointed at stays until it taps elsewhere.
    svg.addEventListener("pointerleave", (event) => event.pointerType === "touch" || this.show(null));
    svg.addEventListener("blur", () => this.show(null));
    svg.addEventListener("keydown", (event) => this.onKey(event));
  }

  get models() {
    return this.data.models.filter((model) => !view.hidden.has(model.id));
  }

  // "params" has one place a model, that of its largest size.
  points(model) {
    return model.points.filter((point) => point[view.x] !== null && point.targets[view.y]);
  }

  // Sizes beyond the measured ones with the value, and the interval of a new measurement there.
  beyond(model) {
    return view.x === "images" && view.beyond ? model.beyond[view.y] || [] : [];
  }

  draw() {
    const shown = this.models.filter((model) => this.points(model).length);
    const longest = Math.max(4, ...this.data.models.map((model) => model.short.length));
    this.end = WIDTH - Math.max(50, Math.round(20 + 8.4 * longest));
    this.svg.replaceChildren(...this.words.slice(1)); // the title would stand under the pointer
    this.svg.setAttribute("aria-label", this.words[0]?.textContent || "");
    if (!shown.length) {
      element("text", { class: "axis", x: LEFT, y: 140 }, "no model is shown, or none has recorded this", this.svg);
      return;
    }
    const all = shown.flatMap((model) => this.points(model));
    const ends = shown.flatMap((model) => this.beyond(model).slice(-1).map(([size]) => size));
    const named = view.x === "images" ? [...new Set(all.map((point) => point.images).concat(ends))].sort((a, b) => a - b) : null;
    this.x = scale(all.map((point) => point[view.x]).concat(ends), view.logX, LEFT, this.end, { named, most: 5 });
    const values = all.flatMap((point) => point.targets[view.y].seeds.map((seed) => seed[1]));
    const { factor } = TARGETS[view.y], oneClass = view.y === "error" ? this.data.one_class : null;
    if (oneClass !== null) values.push(oneClass);
    this.y = scale(values.map((value) => factor * value), view.logY, BOTTOM, TOP, { zero: true });
    this.drawFrame();
    if (view.x === "images" && view.y === "error" && shown.length === this.data.models.length) this.drawCrossovers();
    if (oneClass !== null) this.drawOneClass(oneClass);
    for (const model of shown) this.drawModel(model);
    this.drawNames(shown);
    this.ring = element("circle", { class: "ring pointer", r: 8, visibility: "hidden" }, "", this.svg);
  }

  px(value) {
    return this.x.place(value);
  }

  py(value) {
    return this.y.place(TARGETS[view.y].factor * value);
  }

  // Mean, interval and seeds of the target that is shown.
  of(point) {
    return point.targets[view.y];
  }

  drawFrame() {
    const { words, unit } = TARGETS[view.y];
    element("text", { class: "axis", x: LEFT - 26, y: TOP - 16 }, `${words}, ${unit}${view.logY ? " (log)" : ""}`, this.svg);
    for (const tick of this.y.ticks) {
      const y = this.y.place(tick);
      element("line", { class: "grid", x1: LEFT, x2: this.end, y1: y, y2: y }, "", this.svg);
      element("text", { class: "tick", x: LEFT - 8, y: y + 4, "text-anchor": "end" }, `${tick}`, this.svg);
    }
    element("line", { class: "base", x1: LEFT, x2: this.end, y1: BOTTOM, y2: BOTTOM }, "", this.svg);
    for (const tick of apart(this.x.ticks, this.x.place, 40)) {
      const x = this.px(tick);
      element("line", { class: "base", x1: x, x2: x, y1: BOTTOM, y2: BOTTOM + 4 }, "", this.svg);
      element("text", { class: "tick", x, y: BOTTOM + 18, "text-anchor": "middle" }, brief(tick), this.svg);
    }
    const middle = (LEFT + this.end) / 2;
    element("text", { class: "axis", x: middle, y: BOTTOM + 37, "text-anchor": "middle" }, AXES[view.x], this.svg);
  }

  drawCrossovers() {
    const rows = this.data.crossovers, places = rows.map((row) => this.px(row.at));
    const isClose = (one, other) => one !== undefined && other !== undefined && other - one < 46;
    rows.forEach((row, index) => {
      if (row.interval) {
        const [left, right] = row.interval.map((end, side) => this.px(end ?? [this.x.low, this.x.high][side]));
        element("rect", { class: "span", x: left, width: right - left, y: TOP, height: BOTTOM - TOP }, "", this.svg);
      }
      const x = places[index], isAlone = row.words.startsWith("crossover");
      element("line", { class: "cross", x1: x, x2: x, y1: isAlone ? TOP - 10 : TOP, y2: BOTTOM }, "", this.svg);
      if (!row.words) return;
      const leans = isClose(places[index - 1], x) ? "start" : isClose(x, places[index + 1]) ? "end" : "middle";
      const at = isAlone ? { x: Math.min(Math.max(x, LEFT + 145), this.end - 40), y: TOP - 16 } : { x, y: TOP - 4 };
      element("text", { class: "note", ...at, "text-anchor": leans }, row.words, this.svg);
    });
  }

  // The error of who answers the most frequent class for every test image; null where no model comes near it.
  drawOneClass(error) {
    const y = this.py(error);
    element("line", { class: "one-class", x1: LEFT, x2: this.end, y1: y, y2: y }, "", this.svg);
    element("text", { class: "axis", x: this.end - 12, y: y - 5, "text-anchor": "end" }, "most frequent class", this.svg);
  }

  drawModel(model) {
    const group = element("g", { class: `m${model.id % 6}` }, "", this.svg), points = this.points(model);
    const path = (pairs) => `M${pairs.map(([x, y]) => `${this.px(x)} ${this.py(y)}`).join("L")}`;
    const area = (rows) => `${path([...rows.map(([x, , high]) => [x, high]), ...rows.map(([x, low]) => [x, low]).reverse()])}Z`;
    const banded = points.filter((point) => this.of(point).interval);
    if (banded.length > 1)
      element("path", { class: "band", d: area(banded.map((point) => [point[view.x], ...this.of(point).interval])) }, "", group);
    for (const point of points)
      for (const [, value] of this.of(point).seeds)
        element("circle", { class: "seed", cx: this.px(point[view.x]), cy: this.py(value), r: 2 }, "", group);
    const fit = (model.fit[view.y] || []).filter(([, value]) => TARGETS[view.y].factor * value <= this.y.high);
    if (view.x === "images" && fit.length) element("path", { class: "fit", d: path(fit) }, "", group);
    const beyond = this.beyond(model);
    if (beyond.length) {
      element("path", { class: "beyond-band", d: area(beyond.map(([size, , low, high]) => [size, low, high])) }, "", group);
      element("path", { class: "beyond", d: path(beyond) }, "", group);
    }
    const line = { class: "mean", d: path(points.map((point) => [point[view.x], this.of(point).mean])) };
    element("path", model.dash.length ? { ...line, "stroke-dasharray": model.dash.join(" ") } : line, "", group);
    for (const point of points)
      element("path", { class: "mark", d: SHAPES[model.marker](this.px(point[view.x]), this.py(this.of(point).mean)) }, "", group);
  }

  // Beside the end of each line, which may lie beyond the last measured size.
  drawNames(shown) {
    const ends = shown.map((model) => {
      const last = this.points(model).at(-1), [size, value] = this.beyond(model).at(-1) || [last[view.x], this.of(last).mean];
      return { model, x: this.px(size), y: this.py(value) };
    });
    ends.sort((a, b) => a.y - b.y);
    const heights = ends.map(({ y }) => y + 4.5), gap = 16;
    for (let index = 1; index < ends.length; index++)
      heights[index] = Math.max(heights[index], heights[index - 1] + gap);
    let lowest = BOTTOM + 4; // then up again, from the axis
    for (let index = ends.length - 1; index >= 0; index--) {
      heights[index] = Math.min(heights[index], lowest);
      lowest = heights[index] - gap;
    }
    // Where other lines go on to larger sizes, the name of one that does not would lie on theirs.
    const farthest = view.x === "images" ? Math.max(...ends.map(({ x }) => x)) : null;
    ends.forEach(({ model, x }, index) => {
      element("text", { class: `name m${model.id % 6}`, x: (farthest ?? x) + 11, y: heights[index] }, model.short, this.svg);
    });
  }

  nearest(event) {
    if (!this.x) return null;
    const box = this.svg.getBoundingClientRect(), unit = WIDTH / box.width;
    const [x, y] = [(event.clientX - box.left) * unit, (event.clientY - box.top) * unit];
    let best = null, least = 26;
    for (const model of this.models)
      for (const point of this.points(model)) {
        const distance = Math.hypot(this.px(point[view.x]) - x, this.py(this.of(point).mean) - y);
        if (distance < least) [best, least] = [[model, point], distance];
      }
    return best;
  }

  words_of([model, point]) {
    const { mean, interval, seeds } = this.of(point), { tell, unit, factor } = TARGETS[view.y];
    const brief_value = (value) => (unit === "%" ? (factor * value).toFixed(1) : `${+value.toPrecision(3)}`);
    const lines = [`${model.name}, ${brief(point.images)} images: ${tell(mean)}`];
    const ends = (interval || []).map((end) => (unit === "%" ? percent(end) : brief_value(end)));
    if (interval) lines.push(`95\u202f% interval ${ends.join(" to ")}`);
    if (view.x !== "images") lines.push(`${brief(point[view.x])} ${AXES[view.x]}`);
    lines.push(`${seeds.length} seeds: ${seeds.map(([, value]) => brief_value(value)).slice(0, 12).join(", ")}`);
    lines.push(`learning rate ${point.rate}`);
    return lines;
  }

  show(at) {
    this.at = at;
    this.tip.hidden = !at;
    this.ring?.setAttribute("visibility", at ? "visible" : "hidden");
    if (!at) return;
    const [x, y] = [this.px(at[1][view.x]), this.py(this.of(at[1]).mean)];
    this.ring.setAttribute("cx", x);
    this.ring.setAttribute("cy", y);
    this.ring.setAttribute("class", `ring pointer m${at[0].id % 6}`);
    const lines = this.words_of(at);
    this.tip.replaceChildren(...lines.map((line) => Object.assign(document.createElement("div"), { textContent: line })));
    this.placeTip(x, y);
    announce(lines.join("; "));
  }

  // Beside the mark, on the side with more room, and never beyond the figure.
  placeTip(x, y) {
    const figure = this.svg.parentElement.getBoundingClientRect(), own = this.svg.getBoundingClientRect();
    const unit = own.width / WIDTH, { offsetWidth: width, offsetHeight: height } = this.tip;
    const [markX, markY] = [own.left - figure.left + x * unit, own.top - figure.top + y * unit];
    const left = x > WIDTH / 2 ? markX - width - 12 : markX + 14, top = y > HEIGHT / 2 ? markY - height - 10 : markY + 14;
    this.tip.style.left = `${Math.max(0, Math.min(left, figure.width - width - 2))}px`;
    this.tip.style.top = `${top}px`;
  }

  onKey(event) {
    const moves = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
    if (event.key === "Escape") return this.show(null);
    const move = moves[event.key], models = this.models.filter((model) => this.points(model).length);
    if (!move || !models.length) return;
    event.preventDefault();
    if (!this.at) return this.show([models[0], this.points(models[0])[0]]);
    const inside = (value, size) => Math.min(size - 1, Math.max(0, value));
    const model = models[inside(models.indexOf(this.at[0]) + move[0], models.length)], own = this.points(model);
    this.show([model, own[inside(this.points(this.at[0]).indexOf(this.at[1]) + move[1], own.length)]]);
  }
}
