// The page of a report: the charts, which Observable Plot draws, and the table that can be sorted. What is shown comes from
// the element #data; see chart.go.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const figureOf = new Map(data.figures.map((f) => [f.name, f]));
const curveOf = (point) => data.curves[point.curve];
const shapes = ["circle", "square", "triangle", "diamond", "wye", "hexagon"];
const dashes = ["none", "8 3", "8 3 2 3", "3 3", "2 4"];
const marginLeft = 60;
const paper = 690; // width of a printed chart

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

// Numbers on axes.
function tick(figure, x) {
  if (figure.unit === "bytes") {
    const power = x > 0 ? Math.max(0, Math.min(4, Math.floor(Math.log2(x) / 10))) : 0;
    return `${+(x / 2 ** (10 * power)).toPrecision(3)} ${["B", "KiB", "MiB", "GiB", "TiB"][power]}`;
  }
  if (x !== 0 && (Math.abs(x) >= 1e4 || Math.abs(x) < 1e-3)) {
    return Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 }).format(x).replace("K", "k").replace("-", "−");
  }
  return String(+x.toPrecision(4)).replace("-", "−");
}

const signed = (text, x) => (x > 0 ? "+" : "") + text;

// An axis: which figure it shows, and how. On the scale "near", distances from the baseline shrink as they grow. A scale that the points
// do not allow is linear.
class Axis {
  constructor(figure, scale, points) {
    const values = points.map((p) => p.values[figure.name]);
    this.figure = figure;
    this.base = values[points.findIndex((p) => p.base)] * figure.scale;
    const possible = scale === "near" ? !Number.isNaN(this.base) : !values.some((x) => x <= 0);
    this.scale = possible ? scale : "linear";
  }
  at(x) {
    return this.scale === "near" ? x * this.figure.scale - this.base : x * this.figure.scale;
  }
  options(points, count) {
    const { figure, scale } = this;
    const shown = points.flatMap((p) => [p.values[figure.name], ...(p.bars[figure.name] ?? [])]).map((x) => this.at(x)).filter((x) => scale !== "log" || x > 0);
    let [low, high] = [Math.min(...shown), Math.max(...shown)];
    const common = { label: null, grid: true, tickSize: 0 };
    if (scale === "log") {
      const room = Math.max(1.04, (high / low) ** 0.08);
      return { ...common, ...logarithmic(figure, low / room, high * room, count) };
    }
    const room = (high - low || Math.abs(high) || 1) * 0.08;
    [low, high] = [low - room, high + room];
    if (scale === "linear") return { ...common, domain: [low, high], ticks: count, tickFormat: (x) => tick(figure, x) };
    const unit = median(shown.filter((x) => x !== 0).map(Math.abs)) / 4 || 1;
    const place = (x) => Math.sign(x) * Math.log1p(Math.abs(x / unit));
    const domain = [low, high].map((x, i) => place(x + (i ? -room : room)) + (i ? 1 : -1) * 0.08 * (place(high) - place(low)));
    [low, high] = domain.map((y) => Math.sign(y) * unit * Math.expm1(Math.abs(y)));
    return { ...common, type: "symlog", constant: unit, domain: [low, high], ticks: apart(place, low, high, count), tickFormat: (x) => signed(tick(figure, x), x) };
  }
  get title() {
    return this.scale === "near" ? `${this.figure.title}, difference from the baseline` : this.figure.title;
  }
}

function median(numbers) {
  return numbers.sort((a, b) => a - b)[Math.floor(numbers.length / 2)];
}

// rounds returns the round numbers between two: the leads times powers of ten.
function rounds(low, high, leads) {
  const made = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
    for (const lead of leads) made.push(+`${lead}e${power}`);
  }
  return made.filter((x) => x >= low && x <= high);
}

// apart chooses ticks of an axis that goes from negative to positive numbers, beginning with 0, so that they do not touch.
function apart(place, low, high, count) {
  const least = (place(high) - place(low)) / count;
  const sizes = rounds(Math.max(-low, high) / 1e4, Math.max(-low, high), [1, 2, 5]);
  const kept = [0];
  for (const x of sizes.flatMap((x) => [x, -x])) {
    if (x >= low && x <= high && kept.every((k) => Math.abs(place(k) - place(x)) >= least)) kept.push(x);
  }
  return kept;
}

// logarithmic returns the options of a logarithmic axis, with at most count ticks or so.
function logarithmic(figure, low, high, count) {
  const options = { type: "log", domain: [low, high], tickFormat: (x) => tick(figure, x) };
  if (figure.unit === "bytes") {
    const powers = [];
    for (let power = Math.ceil(Math.log2(low)); power <= Math.log2(high); power++) powers.push(2 ** power);
    return { ...options, ticks: powers.filter((_, i) => i % Math.ceil(powers.length / count) === 0) };
  }
  const choices = [[1, 2, 3, 4, 5, 6, 7, 8, 9], [1, 2, 3, 5], [1, 2, 5], [1, 3], [1]].map((leads) => rounds(low, high, leads));
  const ticks = choices.find((c) => c.length <= count + 1) ?? choices.at(-1);
  return { ...options, ticks: ticks.length < 2 ? count : ticks };
}

const colour = (curve) => (curve.baseline ? "var(--ink)" : `var(--hue${curve.hue % 6})`);
const stroke = (curve) => ({ stroke: colour(curve), strokeWidth: 1.5, strokeDasharray: dashes[curve.dashes] });
const shape = (curve) => (curve.baseline ? "star" : shapes[curve.hue % 6]);

// front returns the points that no other is better than on both axes, from left to right.
function front(points, x, y) {
  const worth = (p, f) => p.values[f.name] * (f.better === "lower" ? 1 : -1);
  const beats = (a, b) => worth(a, x) <= worth(b, x) && worth(a, y) <= worth(b, y) && (worth(a, x) < worth(b, x) || worth(a, y) < worth(b, y));
  return points.filter((p) => !points.some((q) => beats(q, p))).sort((a, b) => a.values[x.name] - b.values[x.name]);
}

// The chart of all points over two figures.
const tradeoff = {
  hidden: new Set(), // recipes that the reader switched off
  width: 0,

  start() {
    for (const [id, first] of [["x", data.x], ["y", data.y]]) {
      for (const f of data.figures) byId(id).append(new Option(f.title, f.name, false, f.name === first));
      for (const [value, text] of [["linear", "linear"], ["log", "log"], ["near", "near the baseline"]]) byId(`${id}-scale`).append(new Option(text, value));
      this.suit(id);
      byId(id).addEventListener("change", () => { this.suit(id); this.draw(); });
      byId(`${id}-scale`).addEventListener("change", () => this.draw());
    }
    data.settings.forEach((s, i) => byId("setting").append(new Option(s, i)));
    byId("setting-label").hidden = data.settings.length < 2;
    byId("setting").addEventListener("change", () => this.draw());
    byId("controls").hidden = byId("hint").hidden = false;
    this.legend();
    redraw(byId("chart"), (width) => { this.width = width; this.draw(); });
  },

  // suit chooses the scale that suits the figure of an axis.
  suit(id) {
    const name = byId(id).value;
    const all = data.points.map((p) => p.values[name]).filter((x) => x !== undefined);
    const wide = Math.min(...all) > 0 && Math.max(...all) / Math.min(...all) >= 6;
    const base = data.points.find((p) => p.base)?.values[name];
    const away = all.map((x) => Math.abs(x - base)).filter((x) => x > 0);
    const skewed = Math.max(...away) > 8 * Math.min(...away);
    byId(`${id}-scale`).value = name === "loss" && skewed ? "near" : wide ? "log" : "linear";
  },

  legend() {
    const recipes = new Map();
    for (const c of data.curves) if (!recipes.has(c.recipe) || c.filled) recipes.set(c.recipe, c);
    for (const [recipe, curve] of recipes) {
      const button = element("button", { type: "button" }, swatch(curve), element("span", { innerHTML: soft(recipe) }, curve.baseline ? " (baseline)" : ""));
      button.setAttribute("aria-pressed", "true");
      button.title = "Show or hide";
      button.addEventListener("click", () => {
        const show = this.hidden.delete(recipe) || !this.hidden.add(recipe);
        button.setAttribute("aria-pressed", show);
        this.draw();
      });
      byId("legend").append(element("li", {}, button));
    }
  },

  draw() {
    const [fx, fy] = [figureOf.get(byId("x").value), figureOf.get(byId("y").value)];
    const setting = +byId("setting").value;
    const all = data.points.filter((p) => p.setting === setting && fx.name in p.values && fy.name in p.values);
    const points = all.filter((p) => !this.hidden.has(curveOf(p).recipe));
    const [x, y] = [new Axis(fx, byId("x-scale").value, all), new Axis(fy, byId("y-scale").value, all)];
    const box = byId("chart");
    if (points.length === 0) {
      box.replaceChildren(element("p", { className: "small", textContent: "No point to show." }));
      byId("front").textContent = "";
      return;
    }
    const best = front(points, fx, fy);
    const svg = this.plot(points, best, x, y);
    box.replaceChildren(svg);
    marks(svg, points, (p) => {
      const named = [fy, fx].concat(data.figures.filter((f) => f !== fx && f !== fy && !f.setup)).filter((f) => f.name in p.texts);
      return [p.name + (p.base ? " (baseline)" : p.best ? " (recommended)" : ""), named.map((f) => [f.title, ...p.texts[f.name]])];
    });
    byId("front").textContent = `On the Pareto front: ${best.map((p) => p.name).join("; ")}.`;
  },

  plot(points, best, x, y) {
    const { width } = this;
    const at = { x: (p) => x.at(p.values[x.figure.name]), y: (p) => y.at(p.values[y.figure.name]) };
    const ink = (p) => colour(curveOf(p));
    const bars = (axis) => points.filter((p) => axis.figure.name in p.bars);
    const ends = (axis, i) => (p) => axis.at(p.bars[axis.figure.name][i]);
    const drawn = points.filter((p) => !p.base).sort((a, b) => a.groups - b.groups);
    const named = width > 500 && points.length <= 60 ? points : best;
    return Plot.plot({
      width, height: Math.round(Math.min(520, Math.max(320, width * 0.5))), marginLeft, marginRight: 24, marginTop: 34, marginBottom: 52, insetTop: 4,
      ariaLabel: `${y.figure.title} over ${x.figure.title}: ${points.length} points`,
      x: x.options(points, Math.max(3, Math.floor(width / 110))),
      y: y.options(points, width < 500 ? 6 : 9),
      marks: [
        Plot.ruleY([y.scale === "near" ? 0 : y.base].filter((base) => !Number.isNaN(base)), { stroke: "var(--soft)", strokeDasharray: "2 3" }),
        Plot.line(best, { ...at, stroke: "var(--soft)", strokeOpacity: 0.3, strokeWidth: 7, curve: "linear", strokeLinejoin: "round" }),
        ...data.curves.map((c, i) => Plot.line(drawn.filter((p) => p.curve === i), { ...at, ...stroke(c) })),
        Plot.link(bars(y), { x: at.x, y1: ends(y, 0), y2: ends(y, 1), stroke: ink, strokeWidth: 1.25 }),
        Plot.link(bars(x), { y: at.y, x1: ends(x, 0), x2: ends(x, 1), stroke: ink, strokeWidth: 1.25 }),
        Plot.dot(best, { ...at, r: 9, stroke: "var(--soft)", strokeWidth: 1.25 }),
        Plot.dot(points, {
          ...at, className: "points", r: (p) => (p.base ? 6 : 4.5), sort: null, symbol: (p) => shape(curveOf(p)),
          stroke: ink, strokeWidth: 1.5, fill: (p) => (curveOf(p).filled ? ink(p) : "var(--paper)"),
        }),
        Plot.text(named, { ...at, className: "names", text: (p) => p.size, dy: -15 }),
        Plot.text([x.title], { frameAnchor: "bottom-right", dy: 44, text: (t) => `${t} →` }),
        Plot.text([y.title], { frameAnchor: "top-left", dx: -marginLeft, dy: -28, text: (t) => `↑ ${t}` }),
      ],
    });
  },
};

// marks makes the marks of a chart's points reachable by pointer and keyboard. describe returns a title and rows of text.
function marks(svg, points, describe) {
  const all = [...svg.querySelectorAll(".points path, .points circle")];
  svg.setAttribute("role", "group");
  svg.querySelectorAll('[aria-label]').forEach((g) => g.closest(".points") || (g.removeAttribute("aria-label"), g.setAttribute("aria-hidden", "true")));
  svg.querySelector(".points").removeAttribute("aria-label");
  all.forEach((mark, i) => {
    const [title, rows] = describe(points[i]);
    mark.classList.add("point");
    mark.setAttribute("role", "img");
    mark.setAttribute("aria-label", `${title}: ${rows.map((r) => r.join(" ")).join(", ")}`);
    mark.setAttribute("tabindex", i ? -1 : 0);
    mark.addEventListener("focus", () => show(i));
    mark.addEventListener("blur", hide);
  });
  const centre = (mark) => {
    const box = mark.getBoundingClientRect();
    return [box.left + box.width / 2, box.top + box.height / 2];
  };
  function show(i) {
    hide();
    all[i].classList.add("active");
    tip(describe(points[i]), ...centre(all[i]));
  }
  function hide() {
    svg.querySelector(".active")?.classList.remove("active");
    byId("tip").hidden = true;
  }
  const order = all.map((_, i) => i).sort((a, b) => centre(all[a])[0] - centre(all[b])[0]);
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") hide();
    if (!step) return;
    event.preventDefault();
    const now = order.indexOf(all.indexOf(document.activeElement));
    const next = all[order[(now + step + order.length) % order.length]];
    all.forEach((mark) => mark.setAttribute("tabindex", mark === next ? 0 : -1));
    next.focus();
  });
  const point = (event) => {
    let [nearest, least] = [-1, 40];
    all.forEach((mark, i) => {
      const [x, y] = centre(mark);
      const distance = Math.hypot(x - event.clientX, y - event.clientY);
      if (distance < least) [nearest, least] = [i, distance];
    });
    nearest < 0 ? hide() : show(nearest);
  };
  svg.addEventListener("pointermove", point);
  svg.addEventListener("pointerdown", point);
  svg.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && hide()); // a finger leaves when it is lifted
}

// tip shows a title and rows of a name, a value and a difference beside a place of the window.
function tip([title, rows], left, top) {
  const box = byId("tip");
  const list = element("dl");
  for (const [name, text, difference] of rows) {
    list.append(element("dt", { textContent: name }), element("dd", { textContent: text }), element("dd", { textContent: difference ?? "" }));
  }
  box.replaceChildren(element("b", { textContent: title }), list);
  box.hidden = false;
  const { width, height } = box.getBoundingClientRect();
  const space = document.documentElement.clientWidth;
  const within = (x, size, all) => Math.max(8, Math.min(x, all - size - 8));
  const right = left + 16 + width < space - 8;
  if (right || left - 16 - width > 8) { // beside the mark, otherwise above or below it
    [left, top] = [right ? left + 16 : left - 16 - width, within(top - height / 2, height, innerHeight)];
  } else {
    [left, top] = [within(left - width / 2, width, space), top + 20 + height < innerHeight ? top + 20 : top - 20 - height];
  }
  box.style.left = `${left + scrollX}px`;
  box.style.top = `${Math.max(8, top + scrollY)}px`;
}

// soft lets a name wrap behind the characters that join its parts.
function soft(text) {
  return element("span", { textContent: text }).innerHTML.replace(/[+/_=]/g, "$&<wbr>");
}

function swatch(curve) {
  const svg = Plot.plot({ width: 16, height: 16, margin: 0, axis: null, x: { domain: [0, 1] }, y: { domain: [0, 1] },
    marks: [Plot.dot([curve], { x: 0.5, y: 0.5, r: curve.baseline ? 4 : 4.5, symbol: shape, stroke: colour, fill: colour })] });
  svg.setAttribute("aria-hidden", "true");
  return svg;
}

// redraw draws a chart now, and again whenever its box has another width, or is printed.
function redraw(box, draw) {
  let width = 0;
  new ResizeObserver(() => {
    if (box.clientWidth === width || box.clientWidth === 0 || matchMedia("print").matches) return;
    width = box.clientWidth;
    draw(width);
  }).observe(box);
  addEventListener("beforeprint", () => draw(paper));
  addEventListener("afterprint", () => draw(width));
}

// lines draws a chart of one line for each of some points. values returns the [x, y, text of x] of a point's line.
function lines(id, points, values, titles, xAxis) {
  const box = byId(id);
  if (!box) return;
  const steps = points.map((p) => values(p).map(([x, y, text]) => ({ x, y, text, p })));
  const all = steps.flat();
  const [low, high] = [Math.min(...all.map((s) => s.y)), Math.max(...all.map((s) => s.y))];
  const many = Math.max(...steps.map((line) => line.length)) > 40; // then only the mark that the reader points at is shown
  const figure = { unit: "" };
  const scale = low > 0 && high / low > 8 ? logarithmic(figure, low, high, 6) : { ticks: 6, tickFormat: (y) => tick(figure, y) };
  const curves = new Map(points.map((p) => [curveOf(p).recipe, curveOf(p)]));
  box.after(element("ul", { className: "legend static" }, ...[...curves].map(([recipe, c]) => element("li", {}, swatch(c), element("span", { innerHTML: soft(recipe) })))));
  redraw(box, (width) => {
    const svg = Plot.plot({
      width, height: Math.round(Math.min(360, Math.max(260, width * 0.34))), marginLeft, marginRight: 24, marginTop: 34, marginBottom: 48, inset: 6,
      ariaLabel: `${titles[1]} over ${titles[0]}: ${points.length} curves`,
      x: { label: null, tickSize: 0, ...xAxis(width) },
      y: { label: null, tickSize: 0, grid: true, ...scale },
      marks: [
        ...steps.map((line) => Plot.line(line, { x: "x", y: "y", ...stroke(curveOf(line[0].p)) })),
        Plot.dot(all, {
          x: "x", y: "y", className: "points", sort: null, r: 3.5, symbol: (s) => shape(curveOf(s.p)), fill: (s) => colour(curveOf(s.p)),
          fillOpacity: many ? 0 : 1, stroke: "none",
        }),
        Plot.text(steps.map((line) => line.at(-1)), { x: "x", y: "y", className: "names", text: (s) => s.p.size, dx: 12 }),
        Plot.text([titles[0]], { frameAnchor: "bottom-right", dy: 42, text: (t) => `${t} →` }),
        Plot.text([titles[1]], { frameAnchor: "top-left", dx: -marginLeft, dy: -28, text: (t) => `↑ ${t}` }),
      ],
    });
    box.replaceChildren(svg);
    marks(svg, all, (s) => [s.p.name, [[titles[0], s.text], [titles[1], tick(figure, s.y)]]]);
  });
}

function startLines() {
  const tokens = { unit: "count" };
  lines("training-chart", data.points.filter((p) => p.training), (p) => p.training.map(([x, y]) => [x, y, tick(tokens, x)]), ["Tokens", "Loss"],
    (width) => ({ ticks: Math.max(3, Math.floor(width / 140)), tickFormat: (x) => tick(tokens, x) }));
  const names = [...new Set(data.points.flatMap((p) => (p.layers ?? []).map((l) => l.name)))];
  lines("layers-chart", data.points.filter((p) => p.layers), (p) => p.layers.map((l) => [names.indexOf(l.name), l.error, l.name]), ["Layer", "Error"],
    (width) => {
      const every = Math.ceil(names.length / Math.max(2, Math.floor(width / 90)));
      return { ticks: names.map((_, i) => i).filter((i) => i % every === 0), tickFormat: (i) => names[i] ?? "" };
    });
}

// The table of points: sorted by any column, with the columns that the reader chooses.
const table = {
  rows: [],

  start() {
    const head = [...byId("table").tHead.rows[0].cells];
    this.rows = [...byId("table").tBodies[0].rows];
    head.forEach((cell, i) => {
      const button = element("button", { type: "button", textContent: cell.textContent });
      button.addEventListener("click", () => this.sort(i, cell.ariaSort === "ascending" ? -1 : 1));
      cell.replaceChildren(button);
      byId("sort").append(new Option(cell.textContent, i));
    });
    byId("sort").prepend(new Option("the report’s order", "", true, true));
    byId("sort").addEventListener("change", () => this.sort(byId("sort").value === "" ? -1 : +byId("sort").value, 1));
    for (const box of document.querySelectorAll(".chooser input")) {
      box.addEventListener("change", () => {
        for (const cell of byId("table").querySelectorAll(`[data-name="${CSS.escape(box.value)}"]`)) cell.hidden = !box.checked;
      });
    }
    byId("table-controls").hidden = false;
  },

  // sort sorts by a column, or restores the report's order if that is negative. Rows without a value stay last.
  sort(column, direction) {
    const value = (row) => row.cells[column].dataset.sort;
    const compare = (a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
      const order = Number.isNaN(+x) || Number.isNaN(+y) ? x.localeCompare(y, "en", { numeric: true }) : x - y;
      return order * direction;
    };
    byId("table").tBodies[0].append(...(column < 0 ? this.rows : [...this.rows].sort(compare)));
    [...byId("table").tHead.rows[0].cells].forEach((cell, i) => {
      if (i === column) cell.ariaSort = direction > 0 ? "ascending" : "descending";
      else cell.removeAttribute("aria-sort");
    });
  },
};

addEventListener("keydown", (event) => { if (event.key === "Escape") byId("tip").hidden = true; });
table.start();
tradeoff.start();
startLines();
