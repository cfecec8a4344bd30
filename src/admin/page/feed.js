// Where the values come from: one stream while the page is seen, none while it is hidden. A browser has six
// connections to a listener for all of its tabs, and a stream holds one: tabs beyond the third of a browser
// ask again and again instead, as all do where the proxy has no stream left.

const STREAMS = 3;
const POLL = 5000;
const OLD = 12_000;
const PAST_EVERY = 30_000;
const me = Date.now() + Math.random();
const others = new Map();
let source = null, poller = 0, pastTimer = 0, heard = 0, was = "";

async function ask(path) {
  return fetch(path, { cache: "no-store", signal: AbortSignal.timeout(15_000) });
}

function take(status) {
  heard = Date.now();
  showTop(status);
  showRules(status);
  showParts(status);
  failuresMayBeNew(status.failures);
  const now = status.state + " " + (status.findings ?? []).map(finding => finding.cause + finding.since).join();
  if (now !== was) {
    was = now;
    // For screen readers, which would read each number that moves else.
    say(byId("news"), status.summary);
    askPast();
  }
  tell();
}

function tell() {
  const ago = heard ? Date.now() - heard : 0, old = document.visibilityState === "visible" && (!heard || ago > OLD);
  const how = source ? "live" : "asked every " + POLL / 1000 + " s";
  const text = !heard ? "connecting" : old ? "No answer since " + clock.format(heard) + ": this is old" : how + ", as of " + shortClock.format(heard);
  say(byId("feed"), text);
  byId("feed").dataset.old = document.body.dataset.old = String(old && heard > 0);
}

const channel = "BroadcastChannel" in window ? new BroadcastChannel("ccpgate") : null;
const announce = about => channel?.postMessage({ id: me, streams: source !== null, ...about });

function olderStreams() {
  const alive = Date.now() - 15_000;
  return [...others].filter(([id, at]) => id < me && at > alive).length;
}

if (channel) {
  channel.onmessage = ({ data }) => {
    if (typeof data?.id !== "number") return;
    if (data.streams) others.set(data.id, Date.now());
    else others.delete(data.id);
    if (data.asks && source) announce();
    if (source && olderStreams() >= STREAMS) {
      stopStream();
      poll();
    }
  };
  setInterval(() => source && announce(), 5000);
}

function stopStream() {
  source?.close();
  source = null;
  announce();
}

function stream() {
  clearTimeout(poller);
  source = new EventSource("/api/events");
  source.addEventListener("status", event => take(JSON.parse(event.data)));
  source.addEventListener("error", () => {
    // It tries again by itself where the connection broke; a refusal is final.
    if (source?.readyState !== EventSource.CLOSED) return;
    stopStream();
    poll(60_000 / POLL);
  });
  announce();
}

// Asks `rounds` times before it tries for a stream again.
async function poll(rounds = 6) {
  clearTimeout(poller);
  if (document.visibilityState !== "visible" || source) return;
  try {
    const answer = await ask("/api/status");
    if (answer.ok) take(await answer.json());
  } catch {
    // What is shown grows old, and says so.
  }
  tell();
  if (document.visibilityState !== "visible" || source) return;
  poller = setTimeout(() => (rounds > 1 || olderStreams() >= STREAMS ? poll(rounds - 1) : stream()), POLL);
}

async function askPast() {
  clearTimeout(pastTimer);
  if (document.visibilityState !== "visible") return;
  const query = new URLSearchParams({ minutes: byId("curve-over").value });
  if (curveDomain) query.set("domain", curveDomain);
  try {
    const answer = await ask("/api/history?" + query);
    if (answer.ok) showPast(await answer.json());
  } catch {
    // That nobody answers is said at the top.
  }
  clearTimeout(pastTimer);
  pastTimer = setTimeout(() => {
    askDesks();
    askPast();
  }, PAST_EVERY);
}

// First the tabs that have a stream are counted.
function start() {
  announce({ asks: true });
  askPast();
  askDesks();
  setTimeout(() => {
    if (document.visibilityState !== "visible" || source) return;
    if (olderStreams() >= STREAMS) poll();
    else stream();
  }, 300);
}

document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible") return start();
  stopStream();
  clearTimeout(poller);
  clearTimeout(pastTimer);
});
addEventListener("pagehide", stopStream);
setInterval(tell, 1000);
if (document.visibilityState === "visible") {
  start();
}
