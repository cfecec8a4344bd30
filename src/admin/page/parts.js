// What not every proxy has: the TLS listener, the watch, ranges, lists, desk checks, generations. A part
// that the API doesn't tell of is hidden. Parts that grow are shown as they come: an array of objects is a
// table, an object a list of names and values.

const parts = new Map();

function part(id, title) {
  if (!parts.has(id)) {
    const body = make("div"), head = make("h2", { id: "part-" + id, text: title });
    const node = make("section", { "aria-labelledby": "part-" + id }, head, body);
    byId("parts").append(node);
    parts.set(id, { node, body, shown: "" });
  }
  return parts.get(id);
}

// Shows a part anew where something in it changed.
function showPart(id, title, value, render, broad) {
  const absent = value === null || value === undefined || (Array.isArray(value) && value.length === 0);
  if (absent && !parts.has(id)) return;
  const known = part(id, title), text = absent ? "" : JSON.stringify(value);
  known.node.hidden = absent;
  mark(known.node, "broad", Boolean(broad));
  if (absent || known.shown === text) return;
  known.shown = text;
  known.body.replaceChildren(...render(value));
}

// The unit stands with the value.
const words = key => (key === "rss_bytes" ? "Memory" : key.replace(/_(s|seconds|bytes)$/, "").replaceAll("_", " ").replace(/^./, first => first.toUpperCase()));

// A value of the API as a node.
function shown(value, key = "") {
  if (value === null || value === undefined || value === "") return make("span", { class: "faint", text: "–" });
  if (isMoment(value)) return timed(value);
  if (key === "pid" || key === "port") return make("span", { text: String(value) });
  if (typeof value === "number") return make("span", { text: /bytes$/.test(key) ? bytes(value) : /_s$|seconds$/.test(key) ? span(value) : whole.format(value) });
  if (typeof value === "boolean") return make("span", { text: value ? "yes" : "no" });
  if (typeof value !== "object") return make("span", { text: String(value) });
  if (!Array.isArray(value)) return listOf(value);
  if (value.length === 0) return make("span", { class: "faint", text: "none" });
  if (value.every(item => item !== null && typeof item === "object" && !Array.isArray(item))) return tableFrom(value);
  return make("span", { text: value.map(item => (typeof item === "object" ? JSON.stringify(item) : String(item))).join(", ") });
}

function listOf(object) {
  const list = make("dl");
  for (const [key, value] of Object.entries(object)) list.append(make("dt", { text: words(key) }), make("dd", {}, shown(value, key)));
  return list;
}

function tableFrom(items, most = 100) {
  const keys = [...new Set(items.flatMap(item => Object.keys(item)))];
  const head = make("tr", {}, ...keys.map(key => make("th", { scope: "col", text: words(key) })));
  // A code, an address or a time is read aloud: it isn't broken. Long names are, wherever there is need.
  const cell = node => make("td", { class: node.textContent.length <= 18 ? "one-line" : "any" }, node);
  const body = items.slice(0, most).map(item => make("tr", {}, ...keys.map(key => cell(shown(item[key], key)))));
  const table = make("table", {}, make("thead", {}, head), make("tbody", {}, ...body));
  const box = make("div", { class: "scroll tall", tabindex: "0", role: "region", "aria-label": "table" }, table);
  if (items.length > most) box.append(make("p", { class: "faint", text: whole.format(items.length - most) + " more" }));
  return box;
}

function tlsOf(tls) {
  const left = (Date.parse(tls.certificate.not_after) - Date.now()) / 1000;
  const expiry = make("dd", {}, timed(tls.certificate.not_after), left > 0 ? ", in " + span(left) : ", expired");
  if (left <= 0) expiry.className = "over";
  else if (left < 14 * 86400) expiry.className = "warn";
  const { handshakes, resumed } = tls.lately, all = tls.full + tls.resumed;
  const of = (part, whole_) => (whole_ ? whole.format(part) + " of " + whole.format(whole_) + ", " + percent(part / whole_) : "none");
  const list = make("dl", {}, make("dt", { text: "Certificate" }), make("dd", { text: tls.certificate.file }), make("dt", { text: "Expires" }), expiry,
    make("dt", { text: "Resumed in 10 min" }), make("dd", { text: of(resumed, handshakes) }),
    make("dt", { text: "Resumed in all" }), make("dd", { text: of(tls.resumed, all) }),
    make("dt", { text: "Sessions" }), make("dd", { text: whole.format(tls.sessions) }));
  const failed = Object.entries(tls.failed ?? {});
  if (failed.length) list.append(make("dt", { text: "Failed handshakes" }), make("dd", { text: failed.map(([cause, count]) => cause + " " + whole.format(count)).join(", ") }));
  return [list];
}

function watchOf(watch) {
  const { endpoints, ...rest } = watch;
  const all = [listOf(rest)];
  if (endpoints?.length) all.push(make("h3", { text: "Endpoints that are not well" }), tableFrom(endpoints));
  return all;
}

// A table of these keys alone, as far as the items have them.
const picked = (items, keys) => tableFrom(items.map(item => Object.fromEntries(keys.filter(key => key in item).map(key => [key, item[key]]))));

function edlOf(edl) {
  if (!Array.isArray(edl?.consumers)) return plain(edl);
  const all = [make("h3", { text: "Who holds which list" })];
  all.push(edl.consumers.length ? picked(edl.consumers, ["consumer", "list", "fetched", "version", "current", "due", "sentence"]) : make("p", { text: "nobody has fetched one" }));
  if (edl.lists?.length) all.push(make("h3", { text: "Lists" }), tableFrom(edl.lists));
  return all;
}

// What is not well of a desk stands in a cell.
function desksOf(desks) {
  const isIll = status => status && !["ok", "open", "untested"].includes(status);
  const ill = desk => Object.entries(desk.categories ?? {}).filter(([, result]) => isIll(result?.status))
    .map(([category, result]) => category + ": " + result.status)
    .concat((Array.isArray(desk.media) ? desk.media : []).filter(media => isIll(media?.status)).map(media => media.host + ": " + media.status));
  const all = desks.map(desk => ({ ...desk, not_well: ill(desk).join(", ") }));
  return [picked(all, ["time", "network", "client", "code", "verdict", "sentence", "not_well", "remedy"])];
}

const plain = value => [Array.isArray(value) ? tableFrom(value) : shown(value)];

function showParts(status) {
  const clients = status.clients ?? {}, ratios = status.error_ratio ?? {};
  showPart("now", "This proxy", {
    "clients in 10 min": clients.active, "of them failing": clients.failing, "open connections": status.client_connections,
    "failure share of the last 200 tunnels": percent(ratios.all ?? 0),
  }, value => [listOf(value)]);
  showPart("tls", "TLS listener", status.tls, tlsOf);
  showPart("watch", "Watch", status.watch, watchOf, status.watch?.endpoints?.length > 0);
  // To the megabyte, so that it isn't drawn anew all the time.
  const several = (status.generations ?? []).map(g => ({ ...g, rss_bytes: g.rss_bytes && Math.round(g.rss_bytes / 1e6) * 1e6 }));
  showPart("generations", "Generations", several, plain, true);
  showPart("ranges", "Address ranges", status.ranges, plain);
  showPart("edl", "Lists for firewalls", status.edl, edlOf, true);
}

async function askDesks() {
  try {
    const answer = await ask("/api/desks?limit=100");
    if (answer.ok) showPart("desks", "Desk checks", await answer.json(), desksOf, true);
  } catch {
    // That nobody answers is said at the top.
  }
}
