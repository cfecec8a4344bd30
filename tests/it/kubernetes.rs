//! The manifests of deploy/kubernetes and the Dockerfile, without a cluster: by the schemas of Kubernetes, and
//! by what holds between them and the configuration they run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::support::{ccpgate, have};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/kubernetes")
}

fn files() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "yaml"))
        .collect();
    files.sort();
    assert!(files.len() > 8, "{files:?}");
    files
}

/// All objects by kind and name; none, with a notice, where nothing here reads YAML.
fn objects() -> Option<BTreeMap<String, Value>> {
    const READ: &str = "import json, sys, yaml\n\
        print(json.dumps([o for f in sys.argv[1:] for o in yaml.safe_load_all(open(f))]))";
    if !have("python3") {
        return None;
    }
    let ran = Command::new("python3").args(["-c", READ]).args(files()).output().unwrap();
    if !ran.status.success() {
        let said = String::from_utf8_lossy(&ran.stderr);
        assert!(said.contains("No module named 'yaml'") && std::env::var_os("CI").is_none(), "{said}");
        eprintln!("skipped: python3 has no yaml, scripts/install-test-tools.sh installs it");
        return None;
    }
    let all: Vec<Value> = serde_json::from_slice(&ran.stdout).unwrap();
    let name = |o: &Value| {
        format!("{} {}", o["kind"].as_str().unwrap(), o["metadata"]["name"].as_str().unwrap_or_default())
    };
    Some(all.into_iter().map(|object| (name(&object).trim().to_owned(), object)).collect())
}

/// The values of the configuration that the pods run.
fn configuration() -> BTreeMap<String, Value> {
    let text = std::fs::read_to_string(folder().join("ccpgate.toml")).unwrap();
    let shown = ccpgate(Some(&text), &["config", "show", "--json"]).expect(0).json();
    let entries = shown.as_object().unwrap().iter();
    entries.map(|(key, entry)| (key.clone(), entry["value"].clone())).collect()
}

fn seconds(span: &Value) -> u64 {
    let span: Duration = humantime::parse_duration(span.as_str().unwrap()).unwrap();
    span.as_secs()
}

fn port(address: &Value) -> u64 {
    address.as_str().unwrap().rsplit_once(':').unwrap().1.parse().unwrap()
}

#[test]
fn every_manifest_is_valid_by_the_schemas() {
    if !have("kubernetes-validate") {
        return;
    }
    for file in files() {
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        // Of others than Kubernetes: its schemas don't have them.
        if ["kustomization.yaml", "servicemonitor.yaml"].contains(&name.as_str()) {
            continue;
        }
        let ran = Command::new("kubernetes-validate").arg("--strict").arg(&file).output().unwrap();
        let said =
            format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        assert!(ran.status.success() && said.contains("passed"), "{name}: {said}");
    }
}

#[test]
fn a_pod_may_drain_for_as_long_as_its_configuration_says() {
    let Some(objects) = objects() else { return };
    let config = configuration();
    let template = &objects["Deployment ccpgate"]["spec"]["template"];
    let grace = template["spec"]["terminationGracePeriodSeconds"].as_u64().unwrap();
    let drain = seconds(&config["limits.lame_duck"]) + seconds(&config["limits.drain"]);
    assert!(grace >= drain + 300, "{grace} s, and the drain takes {drain} s");
    let evict = "cluster-autoscaler.kubernetes.io/safe-to-evict";
    assert_eq!(template["metadata"]["annotations"][evict], "false", "a word, no truth value");
    let (budget, scaler) =
        (&objects["PodDisruptionBudget ccpgate"], &objects["HorizontalPodAutoscaler ccpgate"]);
    assert_eq!(budget["spec"]["maxUnavailable"], 1);
    assert!(scaler["spec"]["minReplicas"].as_u64().unwrap() >= 3);
    let down = &scaler["spec"]["behavior"]["scaleDown"];
    assert!(down["stabilizationWindowSeconds"].as_u64().unwrap() >= 3600);
    assert_eq!(down["policies"][0]["value"], 1);
    assert_eq!(
        objects["Deployment ccpgate"]["spec"]["replicas"],
        Value::Null,
        "the autoscaler says how many"
    );
    assert_eq!(objects["Deployment ccpgate"]["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"], 0);
}

#[test]
fn ports_labels_and_files_fit_one_another() {
    let Some(objects) = objects() else { return };
    let config = configuration();
    let deployment = &objects["Deployment ccpgate"];
    let (labels, pod) =
        (&deployment["spec"]["template"]["metadata"]["labels"], &deployment["spec"]["template"]["spec"]);
    let container = &pod["containers"][0];
    let ports: BTreeMap<&str, u64> = container["ports"]
        .as_array()
        .unwrap()
        .iter()
        .map(|port| (port["name"].as_str().unwrap(), port["containerPort"].as_u64().unwrap()))
        .collect();
    let listens = BTreeMap::from([
        ("http", port(&config["proxy.listen"][0])),
        ("https", port(&config["tls.listen"][0])),
        ("admin", port(&config["admin.listen"])),
    ]);
    assert_eq!(ports, listens);
    for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
        assert_eq!(container[probe]["httpGet"]["port"], "admin", "{probe}");
    }
    assert_eq!(container["readinessProbe"]["httpGet"]["path"], "/readyz");
    for (selector, of) in [
        (&objects["Service ccpgate"]["spec"]["selector"], "Service"),
        (&objects["Service ccpgate-admin"]["spec"]["selector"], "admin Service"),
        (&objects["PodDisruptionBudget ccpgate"]["spec"]["selector"]["matchLabels"], "budget"),
        (&objects["NetworkPolicy ccpgate"]["spec"]["podSelector"]["matchLabels"], "network policy"),
        (&deployment["spec"]["selector"]["matchLabels"], "Deployment"),
    ] {
        assert_eq!(selector, labels, "{of}");
    }
    let monitor = &objects["ServiceMonitor ccpgate"]["spec"];
    assert_eq!(monitor["selector"]["matchLabels"], objects["Service ccpgate-admin"]["metadata"]["labels"]);
    assert_eq!(monitor["endpoints"][0]["port"], objects["Service ccpgate-admin"]["spec"]["ports"][0]["name"]);
    // The alerts ask for the job "ccpgate"; the operator takes it from this label of the Service.
    let label = monitor["jobLabel"].as_str().unwrap();
    assert_eq!(objects["Service ccpgate-admin"]["metadata"]["labels"][label], "ccpgate");
    // Who may come in: agents on the proxy's ports, Prometheus on the other.
    let allowed = |rule: usize| -> Vec<u64> {
        let rule = &objects["NetworkPolicy ccpgate"]["spec"]["ingress"][rule];
        rule["ports"].as_array().unwrap().iter().map(|port| port["port"].as_u64().unwrap()).collect()
    };
    assert_eq!((allowed(0), allowed(1)), (vec![ports["http"], ports["https"]], vec![ports["admin"]]));
    // Every file that the configuration names is in the Secret, where that is mounted, and readable.
    let mounts = container["volumeMounts"].as_array().unwrap();
    let keys = mounts.iter().find(|mount| mount["name"] == "keys").unwrap()["mountPath"].as_str().unwrap();
    let secret = objects["Secret ccpgate-keys"]["stringData"].as_object().unwrap();
    for file in [&config["tls.certificate"], &config["tls.key"], &config["tls.ticket_keys"][0]] {
        let name =
            file.as_str().unwrap().strip_prefix(&format!("{keys}/")).unwrap_or_else(|| panic!("{file}"));
        assert!(secret.contains_key(name), "{name}");
    }
    assert_eq!(pod["volumes"][1]["secret"]["defaultMode"], 0o440);
    let listed = objects["Kustomization"]["resources"].as_array().unwrap().len();
    assert_eq!(listed + 1, files().len(), "every file is listed");
}

#[test]
fn nothing_in_the_container_has_a_right_that_it_does_not_need() {
    let Some(objects) = objects() else { return };
    let pod = &objects["Deployment ccpgate"]["spec"]["template"]["spec"];
    let (of_pod, of_container) = (&pod["securityContext"], &pod["containers"][0]["securityContext"]);
    assert_eq!(
        (&of_pod["runAsNonRoot"], &of_pod["seccompProfile"]["type"]),
        (&true.into(), &"RuntimeDefault".into())
    );
    assert_eq!(of_container["readOnlyRootFilesystem"], true);
    assert_eq!(of_container["allowPrivilegeEscalation"], false);
    assert_eq!(of_container["capabilities"]["drop"][0], "ALL");
    assert_eq!(pod["automountServiceAccountToken"], false);
    let dockerfile = folder().join("../docker/Dockerfile");
    let text = std::fs::read_to_string(dockerfile).unwrap();
    let last = text.rsplit_once("\nFROM ").unwrap().1;
    let user = last.lines().find_map(|line| line.strip_prefix("USER ")).unwrap();
    assert_eq!(user, format!("{}:{}", of_pod["runAsUser"], of_pod["runAsGroup"]));
    // Its health check is a command that there is: nobody answers here.
    let check = last.lines().find(|line| line.starts_with("HEALTHCHECK ")).unwrap();
    let words: Vec<String> = serde_json::from_str(check.split_once(" CMD ").unwrap().1).unwrap();
    assert!(last.contains(&format!(" {}\n", words[0])), "the program is copied to where it is called");
    let mut arguments: Vec<&str> = words[1..].iter().map(String::as_str).collect();
    arguments.extend(["--admin", "http://127.0.0.1:1"]);
    let said = ccpgate(None, &arguments).expect(2).stderr;
    assert!(said.contains("nobody answers"), "{said}");
}
