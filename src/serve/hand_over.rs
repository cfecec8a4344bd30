//! The predecessor's side of a hand-over. It accepts until its successor is ready, keeps its sockets until
//! the successor has proved itself, and accepts again when that dies before.

use std::time::Duration;

use jiff::Timestamp;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::control::Asker;
use super::listeners::Closed;
use super::takeover::{ACCEPTING, Given, PATIENCE, READY, Reply};
use super::{Server, Signals};
use crate::net::control::{MOST, frame, framed, send};

/// Processes that may live at once, the successor included.
const GENERATIONS: usize = 3;
/// How long a successor may take to start.
const START: Duration = Duration::from_secs(60);
/// How long its sockets stay here after it began to accept.
const TRIAL: Duration = Duration::from_secs(5);
/// How long accept loops may take to end.
const CLOSING: Duration = Duration::from_secs(1);

/// What comes of a successor.
pub(super) enum Step {
    /// It is ready to accept.
    Ready(Successor),
    /// It has gone before.
    Gone(u32),
}

/// A process that takes over.
pub(super) struct Successor {
    line: BufReader<UnixStream>,
    pid: u32,
}

/// How a hand-over ended.
pub(super) enum Handed {
    /// The successor accepts.
    Over { going_down: bool },
    /// It has gone; this process accepts again.
    Back,
}

impl Successor {
    /// Whether its next word is this one.
    async fn says(&mut self, word: &str) -> bool {
        let mut line = String::new();
        let read = (&mut self.line).take(64).read_line(&mut line).await;
        read.is_ok() && line.trim_end() == format!("\"{word}\"")
    }
}

impl Server {
    /// Gives copies of the listening sockets to whoever asks, or a reason why not.
    pub(super) async fn give(&mut self, asker: Asker, steps: &mpsc::Sender<Step>) {
        let Asker { mut stream, pid, version } = asker;
        let older = self.admin.generations.living();
        let refused = match self.taking_over {
            Some(other) => Some(format!("process {other} is taking over already")),
            None if older.len() + 2 > GENERATIONS => Some(self.too_many()),
            None if self.listeners.sockets().count() > MOST => Some(format!("more than {MOST} listeners")),
            None => None,
        };
        let Some(control) = &self.control else { return };
        let reply = match &refused {
            Some(why) => Reply::Refused(why.clone()),
            None => Reply::Given(Given {
                id: self.shared.generation,
                pid: std::process::id(),
                socket: control.path.clone(),
                listeners: self.listeners.sockets().map(|(kind, configured, _)| (kind, configured)).collect(),
                older,
            }),
        };
        let sockets: Vec<_> = match &refused {
            Some(_) => Vec::new(),
            None => self.listeners.sockets().map(|(_, _, socket)| socket).collect(),
        };
        let told = async {
            stream.writable().await?;
            send(&stream, &sockets)?;
            stream.write_all(&framed(&reply)?).await
        };
        let told = timeout(PATIENCE, told).await.is_ok_and(|told| told.is_ok());
        if let Some(why) = refused {
            return tracing::warn!(event = "takeover_refused", pid, "process {pid} may not take over: {why}");
        }
        if !told {
            return;
        }
        tracing::info!(event = "handing_over", pid, version, "process {pid} takes over once it is ready");
        self.taking_over = Some(pid);
        let (mut successor, steps) = (Successor { line: BufReader::new(stream), pid }, steps.clone());
        tokio::spawn(async move {
            let ready = timeout(START, successor.says(READY)).await.unwrap_or(false);
            let _ = steps.send(if ready { Step::Ready(successor) } else { Step::Gone(pid) }).await;
        });
    }

    fn too_many(&self) -> String {
        let status = tokio::task::block_in_place(|| self.admin.status());
        let status: serde_json::Value = serde_json::from_str(&status).unwrap_or_default();
        let all = status["generations"].as_array().cloned().unwrap_or_default();
        let shown = all.iter().map(|generation| {
            let end = generation["predicted_end"].as_str().map(|end| format!(", empty at about {end}"));
            format!(
                "process {} with {} tunnels{}",
                generation["pid"],
                generation["tunnels"],
                end.unwrap_or_default()
            )
        });
        format!(
            "{GENERATIONS} processes live already, and no more may: {}. Wait for the oldest to end, or end it \
             with kill -TERM, twice to cut its tunnels",
            shown.collect::<Vec<_>>().join("; ")
        )
    }

    /// A successor has gone before it accepted.
    pub(super) fn abandoned(&mut self, pid: u32) {
        self.taking_over = None;
        tracing::warn!(
            event = "takeover_failed",
            pid,
            "process {pid} has gone before it took over; this one goes on"
        );
    }

    /// Lets the successor accept in this process's place, and waits until it has proved itself. A signal to
    /// end makes that certain.
    pub(super) async fn hand_over(&mut self, mut successor: Successor, signals: &mut Signals) -> Handed {
        let Successor { pid, .. } = successor;
        // What can fail comes before what has effects: once its accept loops have ended this process may need these,
        // and without them nobody would accept. The successor finds its line closed, and that this one serves.
        let spare = match self.listeners.spare() {
            Ok(spare) => spare,
            Err(error) => {
                self.taking_over = None;
                tracing::warn!(
                    event = "takeover_failed",
                    pid,
                    %error,
                    "process {pid} may not take over: this one could not accept again if it died; this one goes on"
                );
                return Handed::Back;
            }
        };
        // One that ends just now is counted here, or there, and never by both.
        tokio::task::block_in_place(|| self.admin.generations.refresh());
        self.admin.generations.hand_over(true);
        self.shared.drain.hand_over();
        for Closed { mut stopper, .. } in self.listeners.leave() {
            let _ = timeout(CLOSING, stopper.ended()).await;
        }
        let accepts = timeout(PATIENCE, async {
            let older: Vec<u32> = self.admin.generations.living().iter().map(|(id, _)| *id).collect();
            let sessions = self.tls.sessions();
            let stream = successor.line.get_mut();
            stream.write_all(&framed(&older)?).await?;
            stream.write_all(&frame(&sessions)).await?;
            stream.write_all(&sessions).await?;
            std::io::Result::Ok(successor.says(ACCEPTING).await)
        });
        if accepts.await.is_ok_and(|said| said.unwrap_or(false)) {
            let mut rest = [0];
            let over = tokio::select! {
                _ = successor.line.read(&mut rest) => None,
                () = sleep(TRIAL) => Some(false),
                _ = signals.terminate.recv() => Some(false),
                _ = signals.interrupt.recv() => Some(false),
                _ = signals.power.recv() => Some(true),
            };
            if let Some(going_down) = over {
                tracing::info!(
                    event = "handed_over",
                    pid,
                    "process {pid} accepts; this one keeps its live tunnels"
                );
                return Handed::Over { going_down };
            }
        }
        self.admin.generations.hand_over(false);
        self.shared.drain.take_back(Timestamp::now().as_second());
        self.taking_over = None;
        let opened = self.listeners.accept_again(spare);
        self.accept(opened);
        tracing::warn!(
            event = "takeover_failed",
            pid,
            "process {pid} has gone as it took over; this one accepts again"
        );
        Handed::Back
    }
}
