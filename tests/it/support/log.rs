//! What the proxy writes to stderr, collected line by line in the background.

use std::io::{self, BufRead, BufReader, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::PATIENCE;

#[derive(Default)]
struct Lines {
    lines: Vec<String>,
    ended: bool,
}

/// The log so far; grows until the process ends.
pub(super) struct Log {
    shared: Arc<(Mutex<Lines>, Condvar)>,
    reader: Option<JoinHandle<()>>,
}

/// A reader that takes its time: so many bytes in each of these pauses, and no more.
pub(super) struct Slow<R> {
    pub from: R,
    pub pause: Duration,
    pub bytes: usize,
}

impl<R: Read> Read for Slow<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        std::thread::sleep(self.pause);
        let most = buffer.len().min(self.bytes);
        self.from.read(&mut buffer[..most])
    }
}

/// A reader that goes once it is told to.
pub(super) struct Leaving<R> {
    pub from: R,
    pub leaves: Arc<AtomicBool>,
}

impl<R: Read> Read for Leaving<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        Ok(if self.leaves.load(Ordering::Acquire) { 0 } else { read })
    }
}

impl Log {
    /// Reads `stderr` to its end on a thread of its own.
    pub(super) fn collect(stderr: impl Read + Send + 'static) -> Self {
        let shared = Arc::new((Mutex::new(Lines::default()), Condvar::new()));
        let of_thread = shared.clone();
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                of_thread.0.lock().unwrap().lines.push(line);
                of_thread.1.notify_all();
            }
            of_thread.0.lock().unwrap().ended = true;
            of_thread.1.notify_all();
        });
        Self { shared, reader: Some(reader) }
    }

    /// Waits for a line, of the past or the future, that is a JSON object with this property.
    #[track_caller]
    pub(super) fn line(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let until = Instant::now() + PATIENCE;
        let mut seen = 0;
        let mut lines = self.shared.0.lock().unwrap();
        loop {
            for line in &lines.lines[seen..] {
                if let Ok(json) = serde_json::from_str::<Value>(line)
                    && wanted(&json)
                {
                    return json;
                }
            }
            seen = lines.lines.len();
            let left = until.saturating_duration_since(Instant::now());
            if lines.ended || left.is_zero() {
                let why = if lines.ended { "the process ended" } else { "time ran out" };
                let log = lines.lines.join("\n");
                // Else the lock would be poisoned for whoever ends the process.
                drop(lines);
                panic!("no log line: {what}; {why}; the log:\n{log}");
            }
            lines = self.shared.1.wait_timeout(lines, left).unwrap().0;
        }
    }

    /// All lines so far that are JSON objects.
    pub(super) fn objects(&self) -> Vec<Value> {
        let lines = self.shared.0.lock().unwrap();
        lines
            .lines
            .iter()
            .filter_map(|line| serde_json::from_str(line).ok())
            .filter(Value::is_object)
            .collect()
    }

    /// Waits until the process has said its last: its end may be known before its last lines are read.
    pub(super) fn wait_for_end(&self) {
        let lines = self.shared.0.lock().unwrap();
        let waited = self.shared.1.wait_timeout_while(lines, PATIENCE, |lines| !lines.ended).unwrap();
        drop(waited);
    }

    /// Everything that the process wrote; waits for its end.
    pub(super) fn finish(&mut self) -> Vec<String> {
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        self.shared.0.lock().unwrap().lines.clone()
    }
}
