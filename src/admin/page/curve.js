// The failure curve with AWS's line of 2 %, and below it what changed.

const LINE = 0.02;
// A share of fewer ended tunnels says little, and is drawn thin.
const FEW = 20;
const GRID = [0, 0.1, 0.25, 0.5, 1];
const STRIDES = [120, 300, 600, 900, 1800, 3600, 7200, 14400];
let past = null;
let curveDomain = "";

// Ended and failed at each point, of this and the steps of ten minutes before it, as the alert looks.
function shares(points, step) {
  const back = Math.max(600, step);
  const all = [];
  let from = 0, ended = 0, failed = 0;
  for (const [at, more, ill] of points) {
    ended += more;
    failed += ill;
    while (points[from][0] <= at - back) {
      ended -= points[from][1];
      failed -= points[from][2];
      from += 1;
    }
    all.push({ at, ended, failed, share: ended ? failed / ended : 0 });
  }
  return all;
}

function pointsOf(category) {
  if (!past) return [];
  if (category) return past.categories[category] ?? [];
  const sums = new Map();
  for (const [name, points] of Object.entries(past.categories)) {
    if (name === "none") continue;
    for (const [at, ended, failed] of points) {
      const sum = sums.get(at) ?? [at, 0, 0];
      sum[1] += ended;
      sum[2] += failed;
      sums.set(at, sum);
    }
  }
  return [...sums.values()].sort((a, b) => a[0] - b[0]);
}

function showPast(history) {
  past = history;
  drawCurve();
  showChanges();
  drawSparks();
}

// Where the curve begins: with a young process, but a quarter of an hour ago at least.
const begin = (now, minutes) => Math.max(now - minutes * 60, Math.min(Date.parse(past.since) / 1000, now - 900));

// A square root: 2 % stands out, and 100 % still fits.
const height = share => Math.sqrt(Math.min(1, share));

function drawCurve() {
  if (!past) return;
  const box = byId("curve"), minutes = Number(byId("curve-over").value);
  const width = Math.max(280, box.clientWidth), tall = Math.max(180, Math.min(420, width / 4));
  const letter = parseFloat(getComputedStyle(box).fontSize);
  const left = 3.2 * letter, right = 0.7 * letter, top = 0.7 * letter, bottom = 2.9 * letter;
  const now = Date.parse(past.time) / 1000, first = begin(now, minutes);
  const x = at => left + (Math.max(first, at) - first) / (now - first) * (width - left - right);
  const y = share => top + (1 - height(share)) * (tall - top - bottom);
  const parts = [];
  for (const share of GRID) {
    parts.push(draw("path", { class: "grid", d: "M" + left + " " + y(share) + "H" + (width - right) }));
    parts.push(draw("text", { x: left - 6, y: y(share) + 4, "text-anchor": "end", text: percent(share) }));
  }
  parts.push(draw("path", { class: "limit", d: "M" + left + " " + y(LINE) + "H" + (width - right) }));
  parts.push(draw("text", { class: "limit-text", x: left - 6, y: y(LINE) + 4, "text-anchor": "end", text: "2 %" }));
  const stride = STRIDES.find(stride => (now - first) / stride <= (width < 600 ? 4 : 9)) ?? 14400;
  for (let at = Math.ceil(first / stride) * stride; at <= now; at += stride) {
    const label = { x: x(at), y: tall - bottom + 1.1 * letter, "text-anchor": "middle", text: shortClock.format(at * 1000) };
    parts.push(draw("path", { class: "grid", d: "M" + x(at) + " " + (tall - bottom) + "v4" }));
    if (x(at) < width - 30 && x(at) > left + 20) parts.push(draw("text", label));
  }
  const all = shares(pointsOf(byId("curve-of").value), past.step_s);
  for (const run of runs(all)) {
    // A step is drawn up to its end.
    const line = run.map(p => x(p.at) + " " + y(p.share)).join("L") + "H" + x(Math.min(now, run.at(-1).at + past.step_s));
    parts.push(draw("path", { class: "area", d: "M" + line + "V" + y(0) + "H" + x(run[0].at) + "Z" }));
    parts.push(draw("path", { class: run[0].ended < FEW ? "share few" : "share", d: "M" + line }));
  }
  (past.changes ?? []).forEach((change, index) => {
    const at = x(Date.parse(change.time) / 1000);
    parts.push(draw("g", {},
      draw("title", { text: moment(change.time) + " " + change.text }),
      draw("path", { class: "mark", d: "M" + at + " " + top + "V" + (tall - 1.2 * letter) }),
      draw("circle", { class: "flag", cx: at, cy: tall - 0.7 * letter, r: 0.65 * letter }),
      draw("text", { class: "flag-text", x: at, y: tall - 0.45 * letter, "text-anchor": "middle", text: String(index + 1) })));
  });
  const text = captionOf(all);
  const svg = draw("svg", { viewBox: "0 0 " + width + " " + tall, height: tall, role: "img", "aria-label": text }, ...parts);
  box.replaceChildren(svg);
  say(byId("curve-text"), text);
  tableOf(all);
}

// Neighbours that are both of many tunnels, or both of few. A gap of a quarter of an hour ends a run.
function runs(all) {
  const found = [];
  let last = null;
  for (const point of all) {
    const joins = last && point.at - last.at <= Math.max(900, 2 * past.step_s);
    if (!joins) found.push([point]);
    else if ((point.ended < FEW) === (last.ended < FEW)) found.at(-1).push(point);
    else found.push([{ ...last, ended: point.ended }, point]);
    last = point;
  }
  return found;
}

function captionOf(all) {
  const of = curveDomain || byId("curve-of").value || "all categories";
  if (all.length === 0) return "No tunnel of " + of + " ended in this time.";
  const last = all.at(-1), most = all.reduce((a, b) => (b.share > a.share ? b : a));
  return "Of " + of + ", " + last.failed + " of the last " + many(last.ended, "ended tunnel") + " within ten minutes failed by the network ("
    + percent(last.share) + ")"
    + (most.failed ? "; most at " + shortClock.format(most.at * 1000) + ": " + percent(most.share) + " of " + whole.format(most.ended) : "")
    + ". The line is 2 %; thin where fewer than " + FEW + " ended.";
}

function tableOf(all) {
  const details = byId("curve-table");
  if (!details.open) return;
  const rows = all.slice(-60).reverse().map(p => make("tr", {},
    make("td", { text: shortClock.format(p.at * 1000) }), make("td", { class: "n", text: whole.format(p.ended) }),
    make("td", { class: "n", text: whole.format(p.failed) }), make("td", { class: p.share > LINE ? "n over" : "n", text: percent(p.share) })));
  const head = make("tr", {}, ...["At", "Ended in 10 min", "Failed", "Share"].map((text, at) =>
    make("th", { scope: "col", class: at ? "n" : "", text })));
  details.lastElementChild.replaceChildren(make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows)));
}

const shownChanges = new Map();

function showChanges() {
  keep(byId("changes"), shownChanges, [...(past.changes ?? [])].reverse(), change => change.time + change.text,
    change => ({ node: make("li", {}, timed(change.time), " ", make("span", { text: change.text })) }));
}

byId("curve-of").addEventListener("change", () => {
  curveDomain = "";
  askPast();
});
byId("curve-over").addEventListener("change", () => askPast());
byId("curve-table").addEventListener("toggle", () => drawCurve());
new ResizeObserver(() => drawCurve()).observe(byId("curve"));
