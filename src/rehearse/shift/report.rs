//! What came of a morning, in numbers and in words. Pure.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde::Serialize;

use super::super::report::Times;
use super::over::Over;
use super::{Count, LOGGED_IN, Office, Told};
use crate::cause::Cause;
use crate::lock::lock;

/// The morning as a whole.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub schema_version: u32,
    /// The first line.
    pub summary: String,
    /// Whether no tunnel was lost or failed, no call failed, the reload took effect, and another process took
    /// over.
    pub ok: bool,
    pub agents: u32,
    pub tunnels_each: u32,
    pub over: Over,
    pub scale: f64,
    pub opened: usize,
    pub lost: u32,
    pub failed: u32,
    /// Set-ups that took so long that a panel would have opened a second WebSocket.
    pub slow: usize,
    /// From the connection to the proxy to an open WebSocket: while all log in, and later.
    pub peak: Times,
    pub later: Times,
    pub calls: u32,
    pub failed_calls: u32,
    pub reloaded: bool,
    pub taken_over: bool,
    /// Tunnels that were open when another process took over.
    pub drained: u32,
    /// A minute before the end: those of the process that had been taken over from, and of its successor.
    pub still_draining: u64,
    pub on_successor: u64,
    /// TLS handshakes with the proxy, and those of them that resumed a session.
    pub handshakes: u64,
    pub resumed: u64,
    pub per_thousand_agents: PerThousand,
    /// What went wrong first.
    pub words: Vec<String>,
    pub interrupted: bool,
    pub seconds: f64,
}

/// What the proxy takes for a thousand agents, in life's time.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct PerThousand {
    pub memory_bytes: u64,
    /// CPU cores while they log in within five minutes, and while they work.
    pub cores_at_the_peak: f64,
    pub cores: f64,
}

impl Report {
    pub(super) fn new(office: &Office, told: Told, took: Duration, interrupted: bool) -> Self {
        let (plan, count) = (office.plan, &office.count);
        let load = |counter: &AtomicU32| counter.load(Ordering::Relaxed);
        let (peak, later) = (Count::times(&count.peak), Count::times(&count.later));
        let is_slow = |micros: &&u32| {
            let took = Duration::from_micros(u64::from(**micros));
            Cause::WsSlow.about().threshold.is_some_and(|threshold| threshold.judge(took).is_some())
        };
        let slow = peak.iter().chain(&later).filter(is_slow).count();
        let (lost, failed, failed_calls) =
            (load(&count.lost), load(&count.failed), load(&count.failed_calls));
        let taken_over = told.generations.is_some();
        let ok = (lost, failed, failed_calls) == (0, 0, 0) && (told.reloaded && taken_over || interrupted);
        let tunnels = told.generations.unwrap_or_default();
        let thousands = f64::from(plan.agents) / 1000.0;
        let [from, to] = told.quiet;
        let quiet = plan.minutes(super::QUIET[1] - super::QUIET[0]).as_secs_f64();
        let per_thousand_agents = PerThousand {
            memory_bytes: (to.memory_bytes.saturating_sub(told.idle.memory_bytes) as f64 / thousands) as u64,
            cores_at_the_peak: (told.logged_in.cpu_s - told.idle.cpu_s).max(0.0)
                / (LOGGED_IN * 60.0)
                / thousands,
            // An interrupt may come between the two.
            cores: (to.cpu_s - from.cpu_s).max(0.0) / quiet / thousands,
        };
        let mut report = Self {
            schema_version: 1,
            summary: String::new(),
            ok,
            agents: plan.agents,
            tunnels_each: plan.tunnels,
            over: plan.over,
            scale: plan.scale,
            opened: peak.len() + later.len(),
            lost,
            failed,
            slow,
            peak: Times::of(peak),
            later: Times::of(later),
            calls: load(&count.calls),
            failed_calls,
            reloaded: told.reloaded,
            taken_over,
            drained: told.drained,
            still_draining: tunnels.iter().skip(1).sum(),
            on_successor: tunnels.first().copied().unwrap_or(0),
            handshakes: told.handshakes as u64,
            resumed: told.resumed as u64,
            per_thousand_agents,
            words: lock(&count.words).clone(),
            interrupted,
            seconds: took.as_secs_f64(),
        };
        report.summary = report.first_line();
        report
    }

    fn first_line(&self) -> String {
        let Self { agents, tunnels_each, opened, lost, failed, slow, .. } = self;
        let word = if self.ok { "ok" } else { "failed" };
        format!(
            "{word}: {agents} agents with {tunnels_each} tunnels each: {lost} of {opened} tunnels lost, {failed} didn't \
             come about, {slow} took longer than 1 s"
        )
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("{}\n", self.summary);
        let interrupted = if self.interrupted { ", interrupted" } else { "" };
        let over = match self.over {
            Over::Plain => "HTTP/1.1 without TLS",
            Over::Tls => "HTTP/1.1 over TLS",
            Over::H2 => "HTTP/2 over TLS",
        };
        let _ = writeln!(text, "30 minutes in {:.0} s by {over}{interrupted}", self.seconds);
        for words in &self.words {
            let _ = writeln!(text, "  {words}");
        }
        let _ = writeln!(
            text,
            "\n{:<14}{:>8}{:>10}{:>10}{:>10}{:>10}",
            "set-up", "tunnels", "p50", "p95", "p99", "max"
        );
        for (name, times) in [("at the peak", &self.peak), ("later", &self.later)] {
            let ms = |ms: f64| format!("{ms:.1} ms");
            let _ = writeln!(
                text,
                "{name:<14}{:>8}{:>10}{:>10}{:>10}{:>10}",
                times.count,
                ms(times.p50_ms),
                ms(times.p95_ms),
                ms(times.p99_ms),
                ms(times.max_ms)
            );
        }
        let _ = writeln!(
            text,
            "\n{} calls, {} failed{}; reload {}",
            self.calls,
            self.failed_calls,
            match self.over {
                Over::Plain => String::new(),
                Over::Tls | Over::H2 => {
                    format!("; {} of {} TLS handshakes with the proxy resumed", self.resumed, self.handshakes)
                }
            },
            if self.reloaded { "taken" } else { "not taken" },
        );
        if self.taken_over {
            let _ = writeln!(
                text,
                "another process took over while {} tunnels were open; a minute before the end {} were still with the \
                 old one, and {} with its successor",
                self.drained, self.still_draining, self.on_successor
            );
        }
        let each = &self.per_thousand_agents;
        let _ = writeln!(
            text,
            "the proxy takes for a thousand agents: {} MiB of memory, {:.2} cores while they log in, {:.2} cores later",
            each.memory_bytes >> 20,
            each.cores_at_the_peak,
            each.cores
        );
        text
    }
}
