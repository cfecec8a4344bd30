"use strict";

// What a voice server's events mean, by the rules of judge.rs. Both are held to one table of cases.
function way({ state, codes, texts, ms }, webrtc) {
  // A browser that may not use UDP gives up at once.
  const AT_ONCE_MS = 5000;
  if (!webrtc) return "browser_policy";
  if (codes.some((code) => code >= 300 && code < 700)) return "open";
  if (state === "new") return "browser_policy";
  if (state === "gathering") return "udp_blocked";
  if (!codes.length) return ms < AT_ONCE_MS ? "browser_policy" : "udp_blocked";
  return texts.every((said) => said === "" || said.includes("lookup")) ? "turn_dns" : "udp_blocked";
}

(() => {
  // The verdict is due within twelve seconds; silence for nine is silence to a softphone, too.
  const LIMIT = 9000;
  // A browser holds 32 tunnels to a proxy, and the panel needs some of them.
  const AT_ONCE = 12;
  const NAMED = 3;
  // Together with what follows a report stays below 16 KiB.
  const EVENTS = 6;
  const TEXT = 60;
  const SETTLE = 1500;
  const STEP = 50;
  const TRIES = 6;
  const PAUSE = 500;

  const data = JSON.parse(document.getElementById("data").textContent);
  const language = (navigator.languages || [navigator.language || "en"])
    .map((tag) => [tag, tag.split("-")[0]])
    .flat()
    .find((tag) => Object.hasOwn(data.texts, tag)) || "en";
  const texts = data.texts[language];
  const text = (key, values = {}) =>
    (texts[key] || key).replace(/\{(\w+)\}/g, (_, name) => String(values[name] ?? ""));
  const at = (id) => document.getElementById(id);
  const now = () => performance.now();
  const since = (start) => Math.max(0, Math.round(now() - start));
  const sleep = (ms) => new Promise((over) => setTimeout(over, ms));

  // A host that answers by leading elsewhere has answered. The policy of this page doesn't let the
  // browser follow; it says so of the host that was asked.
  const redirected = new Set();
  document.addEventListener("securitypolicyviolation", (event) => {
    try {
      redirected.add(new URL(event.blockedURI).host);
    } catch {
      // Not a URL: something else was blocked.
    }
  });

  // ---------------------------------------------------------------- tests

  async function reach(host, over) {
    const start = now();
    const stop = new AbortController();
    const end = () => stop.abort();
    over.addEventListener("abort", end);
    let result = "answered";
    try {
      await fetch(`https://${host}/`, {
        mode: "no-cors",
        credentials: "omit",
        cache: "no-store",
        referrerPolicy: "no-referrer",
        signal: stop.signal,
      });
      // Nobody reads the rest of it.
    } catch {
      result = over.aborted ? "silent" : "failed";
    }
    const ms = since(start);
    over.removeEventListener("abort", end);
    stop.abort();
    return { host, result, ms };
  }

  async function reachEach(hosts, over) {
    const queue = [...hosts];
    const results = [];
    const work = async () => {
      while (queue.length && !over.aborted) results.push(await reach(queue.shift(), over));
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
    // What the browser tells of a redirect may come after the failure, on a busy desk long after.
    const unexplained = () => results.some((one) => one.result === "failed" && !redirected.has(one.host));
    for (let waited = 0; waited < SETTLE && unexplained(); waited += STEP) await sleep(STEP);
    for (const one of results) if (one.result === "failed" && redirected.has(one.host)) one.result = "answered";
    return results;
  }

  // A browser ends all its requests when its network changes, as when a VPN comes up: what failed is tried once more.
  async function reachAll(over) {
    const results = await reachEach(data.hosts.map((row) => row.host), over);
    const failed = results.filter((one) => one.result === "failed").map((one) => one.host);
    const again = new Map((await reachEach(failed, over)).map((one) => [one.host, one]));
    return results.map((one) => {
      const other = again.get(one.host);
      return other && other.result !== "silent" ? other : one;
    });
  }

  // Credentials that are none: a server that can be reached refuses them with 401.
  function gather(host, over) {
    return new Promise((done) => {
      const start = now();
      const codes = [];
      const said = [];
      let connection = null;
      let ended = false;
      const end = () => {
        if (ended) return;
        ended = true;
        const state = connection ? connection.iceGatheringState : "new";
        const ms = since(start);
        if (connection) connection.close();
        done({ host, state, codes, texts: said, ms });
      };
      over.addEventListener("abort", end);
      if (over.aborted) return end();
      try {
        connection = new RTCPeerConnection({
          iceServers: [{ urls: `turn:${host}:3478?transport=udp`, username: "x", credential: "y" }],
          iceTransportPolicy: "relay",
        });
        connection.addEventListener("icecandidateerror", (event) => {
          const code = event.errorCode;
          const words = String(event.errorText || "").slice(0, TEXT);
          const decides = code >= 300 && code < 700;
          // Each once: browsers say it for every interface.
          const known = codes.some((other, at) => other === code && said[at] === words);
          if (decides || (codes.length < EVENTS && !known)) {
            codes.push(code);
            said.push(words);
          }
          if (decides) end();
        });
        connection.addEventListener("icegatheringstatechange", () => {
          if (connection.iceGatheringState === "complete") end();
        });
        connection.createDataChannel("check");
        connection
          .createOffer()
          .then((offer) => connection.setLocalDescription(offer))
          .catch(end);
      } catch {
        end();
      }
    });
  }

  async function test() {
    const stop = new AbortController();
    const timer = setTimeout(() => stop.abort(), LIMIT);
    const webrtc = typeof RTCPeerConnection === "function";
    const [hosts, media] = await Promise.all([
      reachAll(stop.signal),
      Promise.all(data.media.map((host) => gather(host, stop.signal))),
    ]);
    clearTimeout(timer);
    return { browser: navigator.userAgent.slice(0, 200), webrtc, hosts, media };
  }

  // ---------------------------------------------------------------- the report

  // How long ago it began counts from when the report is taken: it may have to wait, and a network that
  // changes may end it on its way.
  async function send(report, begun) {
    for (let tries = 1; ; tries += 1) {
      let answer;
      try {
        answer = await fetch("/check/report", {
          method: "POST",
          headers: { "Content-Type": "application/json" },
          credentials: "omit",
          cache: "no-store",
          body: JSON.stringify({ took_ms: since(begun), ...report }),
        });
      } catch (error) {
        if (tries >= TRIES) throw error;
        await sleep(PAUSE);
        continue;
      }
      if (answer.ok) return answer.json();
      const pause = Number(answer.headers.get("Retry-After"));
      if (answer.status !== 429 || !(pause > 0) || tries >= TRIES) throw new Error(String(answer.status));
      say(text("waiting", { seconds: pause }));
      await sleep(pause * 1000);
    }
  }

  // ---------------------------------------------------------------- what is shown

  function say(sentence, state = "") {
    at("sentence").textContent = sentence;
    at("result").dataset.state = state;
  }

  function element(name, content, kind = "") {
    const made = document.createElement(name);
    if (kind) made.className = kind;
    for (const part of [content].flat()) made.append(part);
    return made;
  }

  const KINDS = { ok: "good", open: "good", untested: "quiet" };
  const word = (status) => element("span", text(`status_${status}`), KINDS[status] || "bad");

  function group(title, status, rows) {
    const head = element("span", [element("h3", title), word(status)], "head");
    if (!rows.length) return element("div", head, "group");
    const made = element("details", element("summary", head), "group");
    made.open = (KINDS[status] || "bad") === "bad";
    made.append(element("ul", rows.map((row) => element("li", [element("span", row.host), word(row.status)]))));
    return made;
  }

  function list(result) {
    const groups = Object.entries(result.categories).map(([category, about]) =>
      group(text(`category_${category}`), about.status, about.hosts));
    const worst = ["turn_dns", "udp_blocked", "browser_policy", "open", "untested"]
      .find((status) => result.media.some((one) => one.status === status));
    if (worst) groups.unshift(group(text("media"), worst, result.media));
    at("groups").replaceChildren(...groups);
    at("left-out").textContent = text("left_out", { count: data.left_out });
    at("left-out").hidden = data.left_out === 0;
    at("details").hidden = false;
  }

  function sentence({ key, hosts, categories, count, all }) {
    let named = hosts.slice(0, NAMED).join(", ");
    if (hosts.length > NAMED) named += text("and_more", { count: hosts.length - NAMED });
    const words = categories.map((category) => text(`category_${category}`)).join(text("and"));
    return text(key, { hosts: named, categories: words, count, all });
  }

  function code(key, value) {
    const [before, after] = text(key, { code: "\n" }).split("\n");
    const shown = element("strong", value);
    shown.setAttribute("aria-hidden", "true");
    // Letter by letter from a screen reader: it is read out on the telephone.
    const spelled = element("span", [...value].join(" "), "heard");
    at("code").replaceChildren(before, shown, spelled, after || "");
    at("code").hidden = false;
  }

  // Where the proxy can't be told, the browser alone says what it saw; a verdict needs both.
  function alone(report) {
    const status = { answered: "ok", failed: "failed", silent: "silent" };
    const categories = {};
    for (const { host, category } of data.hosts) {
      const tried = report.hosts.find((one) => one.host === host);
      const about = categories[category] ??= { status: "untested", hosts: [] };
      const now = tried ? status[tried.result] : "untested";
      about.hosts.push({ host, status: now });
      if (now !== "untested" && about.status !== "failed") about.status = now === "ok" ? "ok" : "failed";
    }
    const media = report.media.map((one) => ({ host: one.host, status: way(one, report.webrtc) }));
    return { categories, media };
  }

  async function check() {
    const start = at("start");
    if (start.getAttribute("aria-disabled")) return;
    // Whoever pressed it by keyboard keeps the place.
    start.hidden = document.activeElement !== start;
    start.setAttribute("aria-disabled", "true");
    at("code").hidden = true;
    at("details").hidden = true;
    const progress = at("progress");
    progress.hidden = false;
    say(text("running"));
    const begun = now();
    const ticking = setInterval(() => {
      progress.value = Math.min(100, (since(begun) / LIMIT) * 100);
    }, 200);
    const report = await test();
    clearInterval(ticking);
    progress.value = 100;
    say(text("sending"));
    try {
      const result = await send(report, begun);
      const good = result.verdict === "ok";
      say(sentence(result.said), good ? "good" : "bad");
      code(good ? "code_ok" : "code", result.code);
      list(result);
    } catch (error) {
      say(text("not_sent", { why: error.message }), "bad");
      list(alone(report));
    }
    progress.hidden = true;
    start.textContent = text("again");
    start.removeAttribute("aria-disabled");
    start.hidden = false;
  }

  document.documentElement.lang = language;
  document.title = text("title");
  for (const marked of document.querySelectorAll("[data-text]")) marked.textContent = text(marked.dataset.text);
  at("progress").setAttribute("aria-label", text("running"));
  at("start").addEventListener("click", check);
  let foreign = false;
  try {
    foreign = document.referrer !== "" && new URL(document.referrer).host !== location.host;
  } catch {
    foreign = true;
  }
  // Somebody else's page may lead here, but doesn't start anything.
  if (data.start && !foreign) {
    check();
  } else {
    at("start").textContent = text("start");
    at("start").hidden = false;
    at("start").focus();
  }
})();
