//! The Grafana dashboard against a real Prometheus that scrapes a real ccpgate under load: every query of it
//! has an answer. And its form: variables, titles, units, as dashboards of mixins have them.

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Over, PATIENCE, Port, Proxy, Raw, Refusing, Region, Secured, have};

const GOOD: &str = "good.example:443";
const DEAD: &str = "dead.example:443";

fn dashboard() -> Value {
    serde_json::from_str(include_str!("../../deploy/grafana/ccpgate.json")).unwrap()
}

/// All panels but rows, by title.
fn panels(dashboard: &Value) -> Vec<&Value> {
    let all = dashboard["panels"].as_array().unwrap().iter();
    all.filter(|panel| panel["type"] != "row").collect()
}

/// Title and query of every panel and annotation.
fn queries(dashboard: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut all = Vec::new();
    for panel in panels(dashboard) {
        let targets = panel["targets"].as_array().unwrap().iter();
        all.extend(targets.map(|target| (text(&panel["title"]), text(&target["expr"]))));
    }
    let annotations = dashboard["annotations"]["list"].as_array().unwrap().iter();
    all.extend(annotations.map(|annotation| (text(&annotation["name"]), text(&annotation["expr"]))));
    all
}

/// As Grafana puts in what its variables are.
fn put_in(query: &str, job: &str, instance: &str) -> String {
    let query = query.replace("$__rate_interval", "15s").replace("$job", job).replace("$instance", instance);
    query.replace("[1m]", "[15s]").replace("[1h]", "[1m]")
}

fn faults(dashboard: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let empty = |value: &Value| value.as_str().is_none_or(str::is_empty);
    let variables: Vec<&str> = dashboard["templating"]["list"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|variable| variable["name"].as_str())
        .collect();
    if variables != ["datasource", "job", "instance"] {
        faults.push(format!("variables {variables:?}"));
    }
    if dashboard["editable"] != false || empty(&dashboard["uid"]) {
        faults.push("editable, or without a uid".to_owned());
    }
    let mut titles = std::collections::BTreeSet::new();
    for panel in panels(dashboard) {
        let title = panel["title"].as_str().unwrap_or_default();
        if title.is_empty() || !titles.insert(title) || empty(&panel["description"]) {
            faults.push(format!("{title:?}: no title, the same twice, or no description"));
        }
        if empty(&panel["fieldConfig"]["defaults"]["unit"]) || panel["datasource"]["uid"] != "${datasource}" {
            faults.push(format!("{title}: no unit, or another data source"));
        }
    }
    for (title, query) in queries(dashboard) {
        let selectors = query.matches('{').count();
        for variable in ["job=~\"$job\"", "instance=~\"$instance\""] {
            if query.matches(variable).count() != selectors {
                faults.push(format!("{title}: {variable} isn't in each selector of {query}"));
            }
        }
        // A counter is of use as a rate alone.
        if query.contains("_total{") && !["rate(", "increase("].iter().any(|part| query.contains(part)) {
            faults.push(format!("{title}: a counter without a rate"));
        }
    }
    faults
}

#[test]
fn the_dashboard_is_in_form() {
    let whole = dashboard();
    assert_eq!(faults(&whole), Vec::<String>::new());
    assert!(panels(&whole).len() > 30);
    let mut broken = whole.clone();
    broken["panels"][1]["description"] = Value::Null;
    broken["panels"][2]["targets"][0]["expr"] = "sum(ccpgate_denied_total{job=~\"$job\"})".into();
    assert_eq!(faults(&broken).len(), 3, "{:?}", faults(&broken));
}

/// A Prometheus that scrapes every second, ended with this.
struct Prometheus {
    child: Child,
    port: Port,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    fn start(proxy: &Proxy) -> Self {
        let (folder, port) = (tempfile::tempdir().unwrap(), Port::keep());
        let config = folder.path().join("prometheus.yml");
        let alerts = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/prometheus-alerts.yml");
        let text = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: [{alerts:?}]\n\
             scrape_configs: [{{ job_name: ccpgate, static_configs: [{{ targets: [\"{}\"] }}] }}]\n",
            proxy.admin()
        );
        std::fs::write(&config, text).unwrap();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--log.level=error")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, port, _folder: folder }
    }

    /// The answer of its API, where it listens by now.
    fn get(&self, path: &str) -> Option<Value> {
        let address = ([127, 0, 0, 1], self.port.number()).into();
        std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
        let mut client = Raw::connect(address);
        client.send(format!("GET {path} HTTP/1.0\r\nHost: x\r\n\r\n"));
        let answer = client.read_to_end().ok()?;
        let at = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
        serde_json::from_slice(&answer[at + 4..]).ok()
    }

    /// What a query gives now; an error is one in its words.
    fn query(&self, query: &str) -> Result<Vec<Value>, String> {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let Some(answer) = self.get(&format!("/api/v1/query?query={encoded}")) else {
            return Err("no answer".to_owned());
        };
        match answer["status"].as_str() {
            Some("success") => Ok(answer["data"]["result"].as_array().cloned().unwrap_or_default()),
            _ => Err(answer["error"].to_string()),
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Queries that are empty here: without `[ranges]`, without media names, without a second start.
fn is_off(query: &str) -> bool {
    ["ccpgate_ranges_", "ccpgate_probe_loss_ratio", "changes(process_start"]
        .iter()
        .any(|name| query.contains(name))
}

#[test]
fn every_query_has_an_answer_from_a_proxy_under_load() {
    if !have("prometheus") {
        return;
    }
    let (region, secured, refusing) = (Region::healthy(), Secured::new(), Refusing::new());
    let config = format!(
        "[watch]\nevery = \"1s\"\nca = \"{}\"\n[[allow]]\npattern = \"good.example\"\n[[allow]]\npattern = \"dead.example\"\n{}\n{}\"{GOOD}\" = \"{}\"\n\"{DEAD}\" = \"{}\"\n",
        region.ca(),
        secured.section(""),
        region.config(),
        region.upstream().address(),
        refusing.address()
    );
    let proxy = Proxy::start(&config);
    let agent = secured.agent();
    let prometheus = Prometheus::start(&proxy);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _live = proxy.tunnel(GOOD);
            let mut desk = 1;
            while !over.load(Ordering::Relaxed) {
                desk = desk % 20 + 1;
                let from = std::net::Ipv4Addr::new(127, 0, 1, desk).into();
                // A tunnel whose far end answers: what is no TLS gets an alert.
                let mut client = Raw::connect_from(from, proxy.http());
                client.connect_target(GOOD);
                client.send("GET / HTTP/1.1\r\n\r\n");
                let _ = client.read_to_end();
                Raw::connect_from(from, proxy.http()).connect_target(DEAD);
                Raw::connect_from(from, proxy.http()).connect_target("evil.example:443");
                let _ = agent.try_visit(proxy.https());
                let _ = Raw::connect(proxy.https()).stream().shutdown(std::net::Shutdown::Write);
                let mut plain = Raw::connect(proxy.https());
                plain.send("GET / HTTP/1.1\r\n\r\n");
                let _ = plain.read_to_end();
                proxy.hang_up("ok");
                std::thread::sleep(Duration::from_millis(300));
            }
        });
        let ended = Over(&over);
        let until = Instant::now() + 8 * PATIENCE;
        let instance = proxy.admin().to_string();
        let open = |(title, query): &(String, String)| {
            let found = prometheus.query(&put_in(query, "ccpgate", &instance));
            match found {
                Ok(series) if !series.is_empty() || is_off(query) => None,
                found => Some(format!("{title}: {query}\n  {found:?}")),
            }
        };
        let mut left = queries(&dashboard());
        let mut why = Vec::new();
        while !left.is_empty() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(500));
            why = left.iter().filter_map(open).collect();
            left.retain(|query| open(query).is_some());
        }
        // What the variables are filled with, and that the rules of the alerts load and evaluate there.
        let jobs = prometheus.get("/api/v1/label/job/values?match[]=ccpgate_build_info");
        let rules = prometheus.get("/api/v1/rules");
        drop(ended);
        assert!(left.is_empty(), "without an answer:\n{}", why.join("\n"));
        assert_eq!(jobs.unwrap()["data"], serde_json::json!(["ccpgate"]));
        let groups = rules.unwrap()["data"]["groups"].as_array().unwrap().clone();
        let rules: Vec<&Value> = groups.iter().flat_map(|group| group["rules"].as_array().unwrap()).collect();
        assert!(rules.len() > 50, "{}", rules.len());
        let ill: Vec<_> = rules.iter().filter(|rule| rule["health"] == "err").collect();
        assert!(ill.is_empty(), "{ill:?}");
        assert!(prometheus.query("sum by (").is_err(), "a broken query is noticed");
        assert!(prometheus.query("ccpgate_no_such_metric").unwrap().is_empty());
    });
}
