//! A Chromium that is steered over its DevTools protocol: pages in tabs of one profile, what stands in them,
//! how they look. For the status page; [`super::browser`] has browsers that only load what they are given.

use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use data_encoding::BASE64;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::stream::MaybeTlsStream;
use tokio_tungstenite::tungstenite::{Message, WebSocket, client};

use super::PATIENCE;
use super::browser_process::{BrowserProcess, QUIET};

/// A browser.
pub(crate) struct Chromium {
    _process: BrowserProcess,
    wire: Mutex<Wire>,
}

struct Wire {
    socket: WebSocket<MaybeTlsStream<TcpStream>>,
    next: u64,
    /// What the pages wrote to their consoles, and exceptions.
    said: Vec<Value>,
}

/// A tab of it.
pub(crate) struct Tab<'a> {
    browser: &'a Chromium,
    session: String,
}

impl Chromium {
    pub(crate) fn start() -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut chromium = Command::new("chromium");
        chromium
            .args(QUIET)
            .args([
                "--hide-scrollbars",
                "--remote-debugging-port=0",
                // Nothing but loopback has an address.
                "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
            ])
            .arg(format!("--user-data-dir={}", profile.path().display()));
        let process = BrowserProcess::start(chromium, profile, "about:blank");
        let said = process.profile.path().join("DevToolsActivePort");
        let until = Instant::now() + 4 * PATIENCE;
        let (port, path) = loop {
            let text = std::fs::read_to_string(&said).unwrap_or_default();
            if let Some((port, path)) = text.split_once('\n').filter(|(_, path)| !path.is_empty()) {
                break (port.to_owned(), path.trim().to_owned());
            }
            assert!(Instant::now() < until, "chromium doesn't say where it listens");
            std::thread::sleep(Duration::from_millis(20));
        };
        let stream = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
        stream.set_read_timeout(Some(4 * PATIENCE)).unwrap();
        let url = format!("ws://127.0.0.1:{port}{path}");
        let (socket, _) = client(url, MaybeTlsStream::Plain(stream)).unwrap();
        let wire = Mutex::new(Wire { socket, next: 0, said: Vec::new() });
        Self { _process: process, wire }
    }

    /// A new tab, in a window of its own, so that none hides another.
    pub(crate) fn open(&self, url: &str) -> Tab<'_> {
        let made = self.call(None, "Target.createTarget", json!({ "url": url, "newWindow": true }));
        let attach = json!({ "targetId": made["targetId"], "flatten": true });
        let session =
            self.call(None, "Target.attachToTarget", attach)["sessionId"].as_str().unwrap().to_owned();
        for domain in ["Runtime.enable", "Page.enable", "Log.enable"] {
            self.call(Some(&session), domain, json!({}));
        }
        let tab = Tab { browser: self, session };
        tab.wait("the page", "document.readyState === 'complete' && location.protocol === 'http:'");
        tab
    }

    /// Everything that pages complained of so far.
    pub(crate) fn complaints(&self) -> Vec<Value> {
        self.wire.lock().unwrap().said.clone()
    }

    fn call(&self, session: Option<&str>, method: &str, parameters: Value) -> Value {
        self.try_call(session, method, parameters).unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// An error is what the browser says, such as that the page is being replaced.
    fn try_call(&self, session: Option<&str>, method: &str, parameters: Value) -> Result<Value, Value> {
        let mut wire = self.wire.lock().unwrap();
        wire.next += 1;
        let id = wire.next;
        let mut asked = json!({ "id": id, "method": method, "params": parameters });
        if let Some(session) = session {
            asked["sessionId"] = session.into();
        }
        wire.socket.send(Message::text(asked.to_string())).unwrap();
        loop {
            let Message::Text(text) = wire.socket.read().unwrap() else { continue };
            let got: Value = serde_json::from_str(&text).unwrap();
            if got["id"] == id {
                let error = got["error"].clone();
                return if error.is_null() { Ok(got["result"].clone()) } else { Err(error) };
            }
            let severe = got["params"]["entry"]["level"] == "error" || got["params"]["type"] == "error";
            if got["method"] == "Runtime.exceptionThrown" || severe {
                wire.said.push(got);
            }
        }
    }
}

impl Tab<'_> {
    fn call(&self, method: &str, parameters: Value) -> Value {
        self.browser.call(Some(&self.session), method, parameters)
    }

    /// What an expression of JavaScript gives.
    #[track_caller]
    pub(crate) fn ask(&self, expression: &str) -> Value {
        let asked = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let got = self.call("Runtime.evaluate", asked);
        assert!(got["exceptionDetails"].is_null(), "{expression}: {}", got["exceptionDetails"]);
        got["result"]["value"].clone()
    }

    /// The text of the element with this id.
    #[track_caller]
    pub(crate) fn text(&self, id: &str) -> String {
        self.ask(&format!("document.getElementById({id:?})?.textContent ?? ''")).as_str().unwrap().to_owned()
    }

    /// Waits until an expression is true.
    #[track_caller]
    pub(crate) fn wait(&self, what: &str, expression: &str) {
        let until = Instant::now() + 4 * PATIENCE;
        loop {
            let asked = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
            let got = self.browser.try_call(Some(&self.session), "Runtime.evaluate", asked);
            if got.is_ok_and(|got| got["result"]["value"] == true) {
                return;
            }
            assert!(
                Instant::now() < until,
                "{what}; the page says:\n{}",
                self.ask("document.body?.innerText")
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The size of the screen, and whether it is dark there.
    pub(crate) fn screen(&self, width: u32, height: u32, dark: bool) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.call("Emulation.setDeviceMetricsOverride", size);
        let scheme = if dark { "dark" } else { "light" };
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.call("Emulation.setEmulatedMedia", json!({ "features": features }));
    }

    /// Presses a key that has a name.
    pub(crate) fn press(&self, key: &str, code: u32) {
        for kind in ["rawKeyDown", "keyUp"] {
            let pressed = json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code });
            self.call("Input.dispatchKeyEvent", pressed);
        }
    }

    /// The tree that a screen reader reads: role and name of each node that has both.
    pub(crate) fn accessible(&self) -> Vec<(String, String)> {
        let tree = self.call("Accessibility.getFullAXTree", json!({}));
        let word = |node: &Value, key: &str| node[key]["value"].as_str().unwrap_or_default().to_owned();
        let nodes = tree["nodes"].as_array().unwrap().iter().filter(|node| node["ignored"] != true);
        nodes.map(|node| (word(node, "role"), word(node, "name"))).collect()
    }

    /// Tells the page that it is hidden, or seen again, as a browser does with a tab behind another.
    pub(crate) fn hide(&self, hidden: bool) {
        let state = if hidden { "hidden" } else { "visible" };
        self.ask(&format!(
            "Object.defineProperty(document, 'visibilityState', {{ value: '{state}', configurable: true }});\
             document.dispatchEvent(new Event('visibilitychange')); true"
        ));
    }

    /// A picture of the whole page.
    pub(crate) fn picture(&self, file: &Path) {
        let asked = json!({ "format": "png", "captureBeyondViewport": true });
        let got = self.call("Page.captureScreenshot", asked);
        std::fs::write(file, BASE64.decode(got["data"].as_str().unwrap().as_bytes()).unwrap()).unwrap();
    }
}
