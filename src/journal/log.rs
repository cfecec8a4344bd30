//! The log: ordinary lines through `tracing`, and one line for each ended tunnel and each denial
//! (`journal::access`). All go through one bounded buffer that a thread of its own writes out, so that a
//! stuck disk or pipe never holds up a tunnel: then lines are dropped and counted.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, Write};
use std::panic::{self, PanicHookInfo};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use prometheus::IntCounter;
use strum::{Display, EnumString, IntoStaticStr, VariantArray};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use super::{journald, rate};
use crate::lock::lock;

/// Most bytes that wait to be written: about 15,000 lines.
const BUFFER: usize = 4 << 20;
/// Lines of so long a time are written together, with one system call and one wake-up.
const GATHER: Duration = Duration::from_millis(5);

/// Lines of libraries in a second: most of them are caused by somebody on the network.
const OF_LIBRARIES: u32 = 20;

/// The form of the lines: `log.format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, VariantArray, IntoStaticStr, EnumString)]
#[strum(serialize_all = "lowercase")]
pub enum Format {
    /// Lines for people.
    Text,
    /// Every line an object.
    Json,
}

/// The least severe level that is written: `log.level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, VariantArray, IntoStaticStr, Display)]
#[strum(serialize_all = "lowercase")]
pub enum Level {
    /// Act now.
    Error,
    /// Degraded.
    Warn,
    /// Start, reload, drain, access.
    Info,
    /// Ordinary endings.
    Debug,
    /// Everything.
    Trace,
}

#[derive(Default)]
struct Pending {
    bytes: Vec<u8>,
    writing: bool,
    closed: bool,
}

struct Buffer {
    pending: Mutex<Pending>,
    changed: Condvar,
    dropped: IntCounter,
    /// Lines go to the journal, which wants them in its own form.
    journal: bool,
    libraries: rate::Rate,
}

/// The way into the buffer; cheap to clone.
#[derive(Clone)]
pub struct Sink(Arc<Buffer>);

impl Sink {
    /// Starts the thread that writes to standard error, in the journal's form where that is the journal.
    /// `dropped` counts what the buffer had no room for.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn stderr(dropped: IntCounter) -> io::Result<Self> {
        Self::new(io::stderr(), dropped, journald::is_stderr())
    }

    fn new(mut out: impl Write + Send + 'static, dropped: IntCounter, journal: bool) -> io::Result<Self> {
        let buffer = Arc::new(Buffer {
            pending: Mutex::default(),
            changed: Condvar::new(),
            dropped,
            journal,
            libraries: rate::Rate::new(OF_LIBRARIES),
        });
        let of_thread = buffer.clone();
        thread::Builder::new().name("log".into()).spawn(move || write_out(&of_thread, &mut out))?;
        Ok(Self(buffer))
    }

    /// Whether lines go to the journal, which wants them in its own form.
    pub(super) fn is_journal(&self) -> bool {
        self.0.journal
    }

    pub(super) fn push(&self, line: &[u8]) {
        let mut pending = lock(&self.0.pending);
        if pending.bytes.len() + line.len() > BUFFER {
            self.0.dropped.inc();
            return;
        }
        let wake = pending.bytes.is_empty() && !pending.writing;
        pending.bytes.extend_from_slice(line);
        drop(pending);
        if wake {
            self.0.changed.notify_all();
        }
    }

    /// Waits until everything is written, a second at most, and ends the thread.
    pub fn close(&self) {
        let mut pending = lock(&self.0.pending);
        pending.closed = true;
        self.0.changed.notify_all();
        let busy = |p: &mut Pending| p.writing || !p.bytes.is_empty();
        drop(self.0.changed.wait_timeout_while(pending, Duration::from_secs(1), busy));
    }
}

fn write_out(buffer: &Buffer, out: &mut impl Write) {
    let mut batch = Vec::new();
    let mut torn = false;
    loop {
        let pending = lock(&buffer.pending);
        let idle = |p: &mut Pending| p.bytes.is_empty() && !p.closed;
        let mut pending = buffer.changed.wait_while(pending, idle).unwrap_or_else(PoisonError::into_inner);
        if pending.bytes.is_empty() {
            return;
        }
        pending.writing = true;
        if !pending.closed {
            drop(pending);
            thread::sleep(GATHER);
            pending = lock(&buffer.pending);
        }
        std::mem::swap(&mut batch, &mut pending.bytes);
        drop(pending);
        // A failure of the log itself can't be told in the log.
        buffer.dropped.inc_by(write_lines(out, &batch, &mut torn));
        batch.clear();
        batch.shrink_to(64 * 1024);
        let mut pending = lock(&buffer.pending);
        pending.writing = false;
        drop(pending);
        buffer.changed.notify_all();
    }
}

/// Writes lines; how many of them can't be written, because the disk is full or the reader has gone. `torn`: of
/// the line before only a part is written, and what comes next begins a line of its own, or it would be lost, too.
fn write_lines(out: &mut impl Write, lines: &[u8], torn: &mut bool) -> u64 {
    let end: &[u8] = if *torn { b"\n" } else { b"" };
    let lost = match write_what_fits(out, end) {
        [] => write_what_fits(out, lines),
        _ => return count_lines(lines),
    };
    *torn = lines[..lines.len() - lost.len()].last().is_some_and(|last| *last != b'\n');
    count_lines(lost)
}

/// Writes bytes; those that can't be written.
fn write_what_fits<'a>(out: &mut impl Write, mut bytes: &'a [u8]) -> &'a [u8] {
    while !bytes.is_empty() {
        match out.write(bytes) {
            Ok(n @ 1..) => bytes = &bytes[n..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Somebody who shares the pipe has made it one that doesn't wait.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(GATHER),
            Ok(_) | Err(_) => break,
        }
    }
    bytes
}

fn count_lines(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}

/// Collects one line of `tracing` and passes it on whole.
pub struct Line(Option<Sink>, Vec<u8>);

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.is_some() {
            self.1.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(sink) = &self.0 {
            sink.push(&self.1);
        }
    }
}

impl<'a> MakeWriter<'a> for Sink {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line(Some(self.clone()), Vec::with_capacity(256))
    }

    fn make_writer_for(&'a self, metadata: &tracing::Metadata<'_>) -> Line {
        if metadata.target().starts_with("ccpgate") || self.0.libraries.fits() {
            return self.make_writer();
        }
        self.0.dropped.inc();
        Line(None, Vec::new())
    }
}

/// RFC 3339 in UTC, to the millisecond, like the access lines.
pub(super) struct Utc;

impl tracing_subscriber::fmt::time::FormatTime for Utc {
    fn format_time(&self, w: &mut tracing_subscriber::fmt::format::Writer<'_>) -> std::fmt::Result {
        write!(w, "{:.3}", jiff::Timestamp::now())
    }
}

/// The level from which on lines of libraries are written. At `warn` they speak of single bytes of single
/// clients (the h2 crate writes a line for each odd frame), so an administrator must ask for these.
const fn libraries(level: Level) -> &'static str {
    match level {
        Level::Debug | Level::Trace => "warn",
        _ => "error",
    }
}

/// Sends `tracing`'s events to `sink` from now on, and says of each panic that there was one. Call once in a
/// process.
pub fn install(sink: &Sink, format: Format, level: Level) {
    let filter = EnvFilter::new(format!("{},ccpgate={level}", libraries(level)));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(sink.clone())
        .with_timer(Utc)
        .with_target(false)
        .with_ansi(false);
    // A second call, as in a test process, keeps the first subscriber.
    let _ = match (format, sink.0.journal) {
        (Format::Text, false) => builder.try_init().ok(),
        (Format::Text, true) => {
            let own = tracing_subscriber::fmt::format().without_time().with_target(false).with_ansi(false);
            builder.event_format(journald::Journal(own)).try_init().ok()
        }
        (Format::Json, false) => builder.event_format(JsonLine).fmt_fields(plain()).try_init().ok(),
        (Format::Json, true) => {
            builder.event_format(journald::Journal(JsonLine)).fmt_fields(plain()).try_init().ok()
        }
    };
    panic::set_hook(Box::new(tell_of_panic));
}

/// Says what has panicked, in the form of the other lines: the runtime catches a panic of one tunnel or job, and
/// all else goes on, so that nothing but this line tells of it.
fn tell_of_panic(panic: &PanicHookInfo<'_>) {
    let payload = panic.payload();
    let said = payload.downcast_ref::<&str>().copied().or(payload.downcast_ref::<String>().map(|s| &**s));
    let current = thread::current();
    let trace = Backtrace::capture();
    tracing::error!(
        event = "panicked",
        thread = current.name(),
        at = panic.location().map(ToString::to_string),
        backtrace = (trace.status() == BacktraceStatus::Captured).then(|| trace.to_string()),
        // It may repeat what a client sent.
        "a fault of ccpgate's own, please report it: {}",
        said.unwrap_or_default().escape_debug()
    );
}

fn plain() -> tracing_subscriber::fmt::format::DefaultFields {
    tracing_subscriber::fmt::format::DefaultFields::new()
}

/// `{"time":…,"level":…,"event":…,"message":…,…}`: flat, like the access lines.
pub(super) struct JsonLine;

impl<S, N> tracing_subscriber::fmt::FormatEvent<S, N> for JsonLine
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
    N: for<'a> tracing_subscriber::fmt::FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &tracing_subscriber::fmt::FmtContext<'_, S, N>,
        mut writer: tracing_subscriber::fmt::format::Writer<'_>,
        event: &tracing::Event<'_>,
    ) -> std::fmt::Result {
        let mut fields = serde_json::Map::new();
        fields.insert("time".into(), format!("{:.3}", jiff::Timestamp::now()).into());
        fields.insert("level".into(), event.metadata().level().as_str().to_ascii_lowercase().into());
        event.record(&mut Fields(&mut fields));
        fields.entry("event").or_insert_with(|| "message".into());
        writeln!(writer, "{}", serde_json::Value::Object(fields))
    }
}

struct Fields<'a>(&'a mut serde_json::Map<String, serde_json::Value>);

impl tracing::field::Visit for Fields<'_> {
    fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
        self.0.insert(field.name().into(), value.into());
    }

    fn record_i64(&mut self, field: &tracing::field::Field, value: i64) {
        self.0.insert(field.name().into(), value.into());
    }

    fn record_u64(&mut self, field: &tracing::field::Field, value: u64) {
        self.0.insert(field.name().into(), value.into());
    }

    fn record_f64(&mut self, field: &tracing::field::Field, value: f64) {
        self.0.insert(field.name().into(), value.into());
    }

    fn record_bool(&mut self, field: &tracing::field::Field, value: bool) {
        self.0.insert(field.name().into(), value.into());
    }

    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        self.0.insert(field.name().into(), format!("{value:?}").into());
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use serde_json::Value;

    use super::*;

    /// Set in a process of its own, where the test panics: the hook is the whole process's.
    const PANICS: &str = "CCPGATE_TEST_PANICS";

    #[test]
    fn a_panic_is_a_line_like_all_others() {
        if std::env::var_os(PANICS).is_some() {
            let sink = Sink::stderr(IntCounter::new("dropped", "help").unwrap()).unwrap();
            install(&sink, Format::Json, Level::Info);
            let worker = thread::Builder::new().name("worker-7".to_owned());
            worker.spawn(|| panic!("one\n{}", 2)).unwrap().join().unwrap_err();
            return sink.close();
        }
        let ran = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "journal::log::tests::a_panic_is_a_line_like_all_others", "--nocapture"])
            .env(PANICS, "1")
            .env_remove("RUST_BACKTRACE")
            .env_remove("JOURNAL_STREAM")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = String::from_utf8(ran.stderr).unwrap();
        assert!(ran.status.success(), "{text}");
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let [line] = &lines[..] else { panic!("{text}") };
        assert_eq!((&line["event"], &line["level"]), (&"panicked".into(), &"error".into()));
        assert_eq!(line["thread"], "worker-7");
        assert!(line["at"].as_str().unwrap().starts_with("src/journal/log.rs:"), "{line}");
        assert!(line["message"].as_str().unwrap().ends_with("report it: one\\n2"), "{line}");
    }

    /// A disk with so much room, on which writes are interrupted now and then.
    struct Disk {
        room: usize,
        held: Vec<u8>,
        interrupts: Vec<io::ErrorKind>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if let Some(kind) = self.interrupts.pop() {
                return Err(kind.into());
            }
            let n = bytes.len().min(self.room - self.held.len()).min(5);
            self.held.extend_from_slice(&bytes[..n]);
            if n == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(n) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_is_not_written_whole_is_lost() {
        let lines = b"the first\nthe second\nthe third\n";
        for (room, lost) in [(0, 3), (9, 3), (10, 2), (20, 2), (21, 1), (30, 1), (31, 0), (99, 0)] {
            let interrupts = vec![io::ErrorKind::Interrupted, io::ErrorKind::WouldBlock];
            let mut disk = Disk { room, held: Vec::new(), interrupts };
            let mut torn = false;
            assert_eq!(write_lines(&mut disk, lines, &mut torn), lost, "{room}");
            assert_eq!(disk.held, lines[..room.min(lines.len())], "{room}");
            // While the disk stays full all is lost, and the first line after it is whole.
            disk.room = disk.held.len();
            assert_eq!(write_lines(&mut disk, b"lost\nlost\n", &mut torn), 2, "{room}");
            disk.room = usize::MAX;
            assert_eq!(write_lines(&mut disk, b"whole\n", &mut torn), 0, "{room}");
            let held = String::from_utf8(disk.held).unwrap();
            assert_eq!(held.lines().last(), Some("whole"), "{held}");
            assert!(!held.contains("\n\n") && !held.starts_with('\n'), "{held}");
        }
    }
}
