// Denials and failed tunnels of late, by client, host and reason.

const KINDS = { denied: "denied", failed: "failed", reported: "let through (report mode)" };
let failuresSeen = -1;
let failuresWait = 0;
let failuresAsked = 0;
const failureRows = new Map();

function failuresPath() {
  const query = new URLSearchParams({ limit: "200" });
  for (const name of ["client", "host", "reason"]) {
    const value = byId("failures-" + name).value.trim();
    if (value) query.set(name, value);
  }
  return "/api/failures?" + query;
}

// Asks when there is something new, at most every five seconds; at once when a filter changed.
function failuresMayBeNew(count) {
  if (count === failuresSeen || failuresWait) return;
  const wait = Math.max(0, failuresAsked + 5000 - performance.now());
  failuresWait = setTimeout(() => {
    failuresWait = 0;
    failuresSeen = count;
    askFailures();
  }, wait);
}

async function askFailures() {
  failuresAsked = performance.now();
  const path = failuresPath();
  try {
    const answer = await ask(path);
    if (path !== failuresPath()) return;
    if (!answer.ok) return say(byId("failures-text"), (await answer.text()).trim());
    showFailures(await answer.json());
  } catch {
    // That nobody answers is said at the top.
    failuresSeen = -1;
  }
}

function showFailures(found) {
  const known = new Set([...byId("failures-reason").options].map(option => option.value));
  for (const reason of found.reasons) {
    if (!known.has(reason)) byId("failures-reason").append(make("option", { value: reason, text: reason }));
  }
  const all = found.failures;
  keep(byId("failures").tBodies[0], failureRows, all,
    failure => [failure.client, failure.target, failure.reason, failure.first].join(" "), makeFailure);
  const more = found.left_out ? ", and " + whole.format(found.left_out) + " more: filter them" : "";
  say(byId("failures-text"), all.length ? many(all.length, "entry").replace("entrys", "entries") + more : "none");
}

function makeFailure(failure) {
  const filter = (name, text) => {
    const button = make("button", { type: "button", class: "plain", text: text || "–", title: "Show this " + name + " alone" });
    button.addEventListener("click", () => {
      byId("failures-" + name).value = text;
      askFailures();
    });
    return button;
  };
  const last = make("td", { class: "n" }), times = make("td", { class: "n" }), why = make("td", { class: "host" });
  const reason = make("td", {}, filter("reason", failure.reason));
  if (failure.kind !== "denied") reason.append(" ", make("span", { class: "faint", text: KINDS[failure.kind] ?? failure.kind }));
  const node = make("tr", {}, last, times, make("td", { class: "one-line" }, filter("client", failure.client)),
    make("td", { class: "host" }, failure.target ? filter("host", failure.target.toLowerCase()) : "–"), reason, why);
  const fill = failure => {
    say(last, moment(failure.last));
    last.title = failure.last + ", first " + failure.first + ", id " + failure.id;
    say(times, whole.format(failure.count));
    say(why, whyOf(failure));
  };
  return { node, fill };
}

function whyOf(failure) {
  const parts = [];
  if (failure.allowed_now) parts.push("allowed by the rules of now");
  if (failure.elsewhere) parts.push("it is " + failure.elsewhere);
  if (failure.nearest) parts.push("nearest rule " + failure.nearest.rule + ": " + failure.nearest.why);
  if (failure.cause) parts.push(failure.cause + (failure.category ? " in " + failure.category : ""));
  if (failure.detail && !failure.nearest && !failure.elsewhere) parts.push(failure.detail);
  return parts.join("; ") || "–";
}

let typing = 0;
for (const name of ["client", "host", "reason"]) {
  byId("failures-" + name).addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(askFailures, 250);
  });
}
byId("failures-clear").addEventListener("click", () => {
  for (const name of ["client", "host", "reason"]) byId("failures-" + name).value = "";
  askFailures();
});
