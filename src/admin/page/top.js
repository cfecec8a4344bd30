// The first line: how it goes, whose turn it is, what to paste.

const STATES = { ok: ["✓ well", "✓"], degraded: ["▲ degraded", "▲"], failed: ["✗ failed", "✗"] };
// What is seen before a client tells of it, by the source of the finding.
const NO_CLIENT = { watch: "none: seen by the watch", ranges: "none: seen in ip-ranges.json" };
const findings = new Map();

function showTop(status) {
  const [word, sign] = STATES[status.state] ?? [String(status.state), "?"];
  byId("top").dataset.state = status.state;
  say(byId("state"), word);
  say(byId("summary"), status.summary);
  mark(byId("summary"), "long", status.summary.length > 160);
  document.title = sign + " " + word.slice(2) + " · ccpgate";
  keep(byId("findings"), findings, status.findings ?? [],
    finding => [finding.cause, finding.category, finding.since, ...(finding.targets ?? [])].join(" "), makeFinding);
  const age = status.uptime_seconds ?? 0;
  const draining = status.draining ? ", draining" : "";
  say(byId("about"), status.version + ", up " + span(age) + ", mode " + status.mode + draining);
  let foot = "Configuration: " + status.config + ". Commit " + status.commit + ". Times are of this browser ("
    + Intl.DateTimeFormat().resolvedOptions().timeZone + "); those in sentences are UTC.";
  if (!status.last_reload_successful) foot = "The last reload was refused: the configuration before it is in force. " + foot;
  say(byId("foot"), foot);
}

function makeFinding() {
  const title = make("h3"), list = make("dl"), paste = make("code", { tabindex: "0", "aria-label": "Text to paste" });
  const copy = make("button", { type: "button", text: "Copy" });
  copy.addEventListener("click", async () => {
    say(copy, (await copied(paste.textContent, paste)) ? "Copied" : "Selected");
    setTimeout(() => say(copy, "Copy"), 2000);
  });
  const values = new Map();
  const line = (name, value) => {
    if (!values.has(name)) {
      const node = make("dd");
      list.append(make("dt", { text: name }), node);
      values.set(name, node);
    }
    say(values.get(name), value);
  };
  const fill = finding => {
    say(title, finding.cause + (finding.category ? " in " + finding.category : ""));
    line("Clients", (NO_CLIENT[finding.source] ?? finding.clients_failing + " of " + finding.clients_active + " fail"
      + (finding.networks?.length ? ", in " + finding.networks.join(", ") : "")) + ", since " + moment(finding.since));
    line("Agents see", finding.agent_sees);
    line("Whose turn", finding.owner);
    line("To do", finding.remedy);
    line("Targets", finding.targets?.join(", ") || "–");
    line("Just before", finding.changed?.join("; ") || "nothing that is known");
    say(paste, finding.paste ?? "");
  };
  return { node: make("li", {}, title, list, make("div", { class: "paste" }, paste, copy)), fill };
}
