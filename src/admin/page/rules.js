// Categories and their rules: what is open, how much moves, what fails.

const RATE_OVER = 10_000;
const rows = new Map();
const bodies = new Map();
const samples = [];
let allRules = false;
let lastStatus = null;

function makeRow(kind, name) {
  const head = make("th", { scope: "row", class: "host" });
  const pick = make("button", { type: "button", class: "plain", text: name, title: "Show it in the curve" });
  head.append(pick);
  const cells = {};
  const cell = (key, about) => (cells[key] = make("td", about));
  const node = make("tr", { class: kind }, head, cell("open", { class: "n" }), cell("ended", { class: "n" }),
    cell("up", { class: "n" }), cell("down", { class: "n" }), cell("sent", { class: "n wide" }), cell("received", { class: "n wide" }),
    cell("failed"), cell("spark", { class: "wide" }), cell("used", { class: "n" }));
  return { node, cells, pick, text: new Map() };
}

function fillRow(row, sum, rate) {
  const { cells } = row;
  say(cells.open, whole.format(sum.active));
  say(cells.ended, whole.format(sum.total - sum.active));
  say(cells.up, rate ? bytes(rate.sent) : "–");
  say(cells.down, rate ? bytes(rate.received) : "–");
  say(cells.sent, bytes(sum.sent));
  say(cells.received, bytes(sum.received));
  const { ended, failed } = sum.lately, share = ended ? failed / ended : 0, over = share > LINE;
  say(cells.failed, ended ? whole.format(failed) + " of " + whole.format(ended) + ", " + percent(share) + (over ? " ▲ over the line" : "") : "–");
  mark(cells.failed, "over", over);
  mark(row.node, "unused", sum.total === 0);
  say(cells.used, sum.active ? "now" : sum.last_used ? moment(sum.last_used) : sum.total ? "none stood" : "never");
}

const keyOf = rule => rule.category + " " + rule.domain;

// Bytes in a second, over the last ten of them.
function rates(rules) {
  const now = performance.now(), counts = new Map();
  for (const rule of rules) counts.set(keyOf(rule), [rule.sent, rule.received]);
  samples.push({ now, counts });
  while (samples.length > 2 && samples[1].now <= now - RATE_OVER) samples.shift();
  const first = samples[0], seconds = (now - first.now) / 1000;
  return rule => {
    const before = first.counts.get(keyOf(rule));
    if (!before || seconds < 0.5) return null;
    const each = (count, was) => Math.max(0, count - was) / seconds;
    return { sent: each(rule.sent, before[0]), received: each(rule.received, before[1]) };
  };
}

function showRules(status) {
  lastStatus = status;
  const rules = status.rules ?? [], rate = rates(rules), byCategory = new Map();
  for (const rule of rules) {
    if (!byCategory.has(rule.category)) byCategory.set(rule.category, []);
    byCategory.get(rule.category).push(rule);
  }
  const order = [], live = new Set();
  for (const [category, list] of byCategory) {
    if (!bodies.has(category)) {
      const row = makeRow("category", category);
      row.pick.addEventListener("click", () => pickCurve(category, ""));
      bodies.set(category, { node: make("tbody", {}), row });
      byId("curve-of").append(make("option", { value: category, text: category }));
    }
    const body = bodies.get(category);
    const sum = { active: 0, total: 0, sent: 0, received: 0, lately: { ended: 0, failed: 0 }, last_used: null };
    let moved = null;
    const shown = [body.row.node];
    for (const rule of list) {
      for (const name of ["active", "total", "sent", "received"]) sum[name] += rule[name];
      sum.lately.ended += rule.lately?.ended ?? 0;
      sum.lately.failed += rule.lately?.failed ?? 0;
      if (rule.last_used && (!sum.last_used || rule.last_used > sum.last_used)) sum.last_used = rule.last_used;
      const of = rate(rule);
      if (of) moved = { sent: (moved?.sent ?? 0) + of.sent, received: (moved?.received ?? 0) + of.received };
      if (rule.total === 0 && !allRules) continue;
      const key = keyOf(rule);
      live.add(key);
      if (!rows.has(key)) {
        const row = makeRow("rule", rule.domain);
        row.pick.addEventListener("click", () => pickCurve(rule.category, rule.domain));
        rows.set(key, row);
      }
      fillRow(rows.get(key), { ...rule, lately: rule.lately ?? { ended: 0, failed: 0 } }, of);
      shown.push(rows.get(key).node);
    }
    fillRow(body.row, sum, moved);
    hold(body.node, shown);
    order.push(body.node);
  }
  for (const key of rows.keys()) if (!live.has(key)) rows.delete(key);
  hold(byId("rules"), [byId("rules").tHead, ...order]);
}

function pickCurve(category, domain) {
  curveDomain = domain;
  byId("curve-of").value = category;
  askPast();
  byId("curve-title").scrollIntoView({ block: "nearest" });
}

// A small curve for each category, with the same line.
function drawSparks() {
  if (curveDomain) return;
  const now = Date.parse(past.time) / 1000, first = begin(now, Number(byId("curve-over").value));
  for (const [category, { row }] of bodies) {
    const all = shares(past.categories[category] ?? [], past.step_s);
    const x = at => (Math.max(first, at) - first) / (now - first) * 120, y = share => 22 - height(share) * 20;
    const worst = all.reduce((most, p) => Math.max(most, p.share), 0);
    const svg = draw("svg", { viewBox: "0 0 120 24", width: 120, height: 24, role: "img",
      "aria-label": all.length ? "at most " + percent(worst) : "none ended" },
      draw("path", { class: "limit", d: "M0 " + y(LINE) + "H120" }));
    if (all.length) {
      const line = all.map(p => x(p.at) + " " + y(p.share)).join("L") + "H" + x(Math.min(now, all.at(-1).at + past.step_s));
      svg.append(draw("path", { class: "share", d: "M" + line }));
    }
    row.cells.spark.replaceChildren(svg);
  }
}

byId("rules-all").addEventListener("click", () => {
  allRules = !allRules;
  byId("rules-all").setAttribute("aria-pressed", String(allRules));
  if (lastStatus) showRules(lastStatus);
});
