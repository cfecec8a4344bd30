//! The capacity plan: its calculated rows against its measured ones, the units, and the program's own defaults.

use super::*;

const PAGE: &str = "docs/capacity.md";
/// The columns of the measured table, and how the plan's rows call them.
const OVER: [&str; 3] = ["`plain`", "`tls`", "`h2`"];
const AGENTS: [f64; 3] = [500.0, 5_000.0, 50_000.0];
/// The whole login, in seconds: the shift's five minutes.
const LOGIN: f64 = 300.0;
/// What isn't a tunnel's, as docs/limits.md has it.
const OTHER_FILES: f64 = 200.0;
/// Linux' default range of local ports, 32768 to 60999.
const PORTS: f64 = 28_232.0;

/// A whole number with separators; others with so many digits behind the point.
pub(super) fn number(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut grouped = String::new();
    for (at, digit) in whole.char_indices() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + rest
}

fn row<'a>(lines: &[&'a str], name: &str) -> Vec<&'a str> {
    let mut rows = lines.iter().filter_map(|line| cells(line)).filter(|row| row[0] == name);
    rows.next().unwrap_or_else(|| panic!("{PAGE}: no row {name:?}"))[1..].to_vec()
}

/// The default of `--tunnels`, as the command itself says it.
fn tunnels_each() -> f64 {
    let ran = Command::new(env!("CARGO_BIN_EXE_ccpgate")).args(["rehearse", "--help"]).output().unwrap();
    let help = String::from_utf8(ran.stdout).unwrap();
    let (_, after) = help.split_once("--tunnels").unwrap();
    let (_, value) = after.split_once("[default: ").unwrap();
    value.split_once(']').unwrap().0.parse().unwrap()
}

/// `LimitNOFILE=` of the units.
fn files() -> f64 {
    let limit = |unit: &str| -> f64 {
        let text = read(unit);
        text.lines().find_map(|line| line.strip_prefix("LimitNOFILE=")).unwrap().parse().unwrap()
    };
    let both = ["deploy/ccpgate.service", "deploy/ccpgate@.service"].map(limit);
    assert_eq!(both[0], both[1]);
    both[0]
}

/// The rows of the plan, as they follow from the measured ones.
fn plan(page: &str) -> Vec<(String, [String; 3])> {
    let measured = section(page, "## What was measured");
    let of = |name: &str| -> Vec<f64> {
        let cells = row(&measured, name);
        cells.iter().map(|cell| cell.replace(',', "").parse().unwrap()).collect()
    };
    let (each, files) = (tunnels_each(), files());
    let socket: f64 = of("Kernel memory of a socket, KiB")[0];
    let bytes: f64 = of("Bytes of an agent in a second, both directions")[0];
    let mut rows: Vec<(String, [String; 3])> = Vec::new();
    let mut add = |name: String, value: &dyn Fn(f64) -> String| rows.push((name, AGENTS.map(value)));
    add("Tunnels".into(), &|agents| number(agents * each, 0));
    add("Set-ups a second at nine".into(), &|agents| number(agents * each / LOGIN, 0));
    add("TLS handshakes a second at nine, `h2`".into(), &|agents| number(agents / LOGIN, 1));
    for (name, from, digits) in [
        ("CPU cores at nine", "CPU cores while 1,000 agents log in", 2),
        ("CPU cores later", "CPU cores while they work", 2),
        ("Memory of all processes, MiB", "Memory of the process for them, MiB", 0),
    ] {
        for (over, value) in OVER.iter().zip(of(from)) {
            add(format!("{name}, {over}"), &|agents| number(agents / 1000.0 * value, digits));
        }
    }
    for (over, sockets) in [("HTTP/1.1", each * 2.0), ("`h2`", each + 1.0)] {
        add(format!("Kernel memory, MiB, {over}"), &|agents| number(agents * sockets * socket / 1024.0, 0));
        add(format!("Open files, {over}"), &|agents| number(agents * sockets + OTHER_FILES, 0));
        let most = ((files - OTHER_FILES) / sockets).floor();
        let working = |agents: f64| (agents / most).ceil();
        add(format!("Proxies, one of them to spare, {over}"), &|agents| number(working(agents) + 1.0, 0));
        add(format!("Agents of each with one down, {over}"), &|agents| {
            number((agents / working(agents)).ceil(), 0)
        });
        add(format!("Source addresses times upstream addresses of each then, {over}"), &|agents| {
            number((agents / working(agents) * each / PORTS).ceil(), 0)
        });
    }
    add("Conntrack entries behind the proxies".into(), &|agents| number(agents * each, 0));
    add("Conntrack entries before them, HTTP/1.1".into(), &|agents| number(agents * each, 0));
    add("Conntrack entries before them, `h2`".into(), &|agents| number(agents, 0));
    add("Mbit/s while they work".into(), &|agents| number(agents * bytes * 8.0 / 1e6, 1));
    rows
}

fn mistakes(page: &str) -> Vec<String> {
    let table = section(page, "## The plan");
    let plan = plan(page);
    let mut wrong: Vec<String> = Vec::new();
    for (name, expected) in &plan {
        let told = row(&table, name);
        if told != expected.each_ref().map(String::as_str) {
            wrong.push(format!("{PAGE}: {name}: {told:?}, and it comes to {expected:?}"));
        }
    }
    let rows = table.iter().filter_map(|line| cells(line)).count();
    // The head, and the line below it.
    if rows != plan.len() + 2 {
        wrong.push(format!("{PAGE}: {rows} rows, and {} are known", plan.len() + 2));
    }
    wrong
}

#[test]
fn the_capacity_plan_follows_from_what_was_measured() {
    let page = read(PAGE);
    expect_nothing(mistakes(&page));
    assert_eq!(mistakes(&page.replace("| Tunnels | 20,000 |", "| Tunnels | 25,000 |")).len(), 1);
    let cost = "| Kernel memory of a socket, KiB | ";
    let dearer = mistakes(&page.replace(cost, &format!("{cost}1")));
    assert_eq!(dearer.len(), 2, "{dearer:?}");
}

/// The default of `section.key`, from the schema.
fn default(key: &str) -> f64 {
    let (section, name) = key.split_once('.').unwrap();
    let schema = ccpgate::config::schema();
    schema["properties"][section]["properties"][name]["default"].as_f64().unwrap_or_else(|| panic!("{key}"))
}

/// What the page says of limits is what they are.
#[test]
fn the_capacity_plan_knows_the_limits() {
    let page = read(PAGE).replace('\n', " ");
    let connections = default("limits.connections");
    for words in [
        format!("`LimitNOFILE={}`", files()),
        format!("`limits.connections` is {} by default", number(connections, 0)),
        format!("that is {} agents", number(connections / tunnels_each(), 0)),
        format!(
            "`limits.connections_per_client`, {} by default",
            number(default("limits.connections_per_client"), 0)
        ),
        format!("`shift.sessions`, {} by default", number(default("shift.sessions"), 0)),
    ] {
        assert!(page.contains(&words), "{PAGE} doesn't say: {words}");
    }
}
