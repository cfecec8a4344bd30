//! Tells the service manager (sd_notify(3)) that we serve, reload or stop, and a sentence for `systemctl
//! status`. Without `NOTIFY_SOCKET` there is no manager, and nothing happens.
//!
//! A datagram to a manager that hangs blocks its sender, so a thread of its own sends. A message is dropped
//! where the queue is full; no tunnel or scrape waits for it.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use sd_notify::NotifyState;

use crate::proxy::shared::Shared;
use crate::wording::count;

/// The sentence is sent at most this often.
const EVERY: Duration = Duration::from_secs(5);
/// How many messages wait for a slow manager.
const QUEUE: usize = 16;
/// Longest sentence, in characters: systemd shows it in one line.
const LONGEST: usize = 300;

enum Message {
    Ready(String),
    Reloading,
    Stopping(String),
    Status(String),
}

/// The service manager, where there is one.
#[derive(Clone)]
pub(crate) struct Manager(Option<SyncSender<Message>>);

/// Whether a service manager that takes notifications started this process.
pub(crate) fn is_managed() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some_and(|socket| !socket.is_empty())
}

/// Tells why the start failed, for `systemctl status`. Waits until the message is sent.
pub(crate) fn failed(why: &str) {
    // Where the manager can't be reached, the log still has the reason.
    let _ = sd_notify::notify(&[NotifyState::Status(&sentence(why))]);
}

impl Manager {
    /// The manager of this process. Call once.
    pub(crate) fn of_process() -> Self {
        if !is_managed() {
            return Self(None);
        }
        let (sender, messages) = sync_channel(QUEUE);
        let started = thread::Builder::new().name("notify".into()).spawn(move || {
            while let Ok(message) = messages.recv() {
                if let Err(error) = send(&message) {
                    tracing::debug!(event = "notify_failed", %error, "the service manager can't be told");
                }
            }
        });
        match started {
            Ok(_) => Self(Some(sender)),
            Err(error) => {
                tracing::warn!(event = "notify_failed", %error, "the service manager can't be told");
                Self(None)
            }
        }
    }

    /// Tells that the process serves, for the first time or again after a reload; `systemctl start`
    /// returns.
    pub(crate) fn ready(&self, status: &str) {
        self.tell(Message::Ready(sentence(status)));
    }

    /// Tells that a reload begins; [`Manager::ready`] must follow, however it ends.
    pub(crate) fn reloading(&self) {
        self.tell(Message::Reloading);
    }

    /// Tells that the process takes no new connections and will end by itself.
    pub(crate) fn stopping(&self, status: &str) {
        self.tell(Message::Stopping(sentence(status)));
    }

    fn tell(&self, message: Message) {
        if let Some(sender) = &self.0 {
            let _ = sender.try_send(message);
        }
    }

    /// Keeps the sentence of `systemctl status` true for as long as the process lives.
    pub(crate) async fn follow(self, shared: Arc<Shared>) {
        if self.0.is_none() {
            return;
        }
        let mut last = String::new();
        loop {
            let now = state(&shared);
            if now != last {
                self.tell(Message::Status(now.clone()));
                last = now;
            }
            tokio::time::sleep(EVERY).await;
        }
    }
}

/// The state of the process in a sentence, which `systemctl status` shows.
pub(crate) fn state(shared: &Shared) -> String {
    let tunnels = count(shared.drain.busy_now(), "tunnel");
    // One that may still take back says nothing of it.
    if shared.drain.is_handed_over() && shared.drain.is_leaving() {
        format!("handed over to a successor, {tunnels} left")
    } else if shared.drain.is_draining() {
        format!("draining, {tunnels} left; no new connections")
    } else if shared.drain.is_leaving() {
        format!("leaving, {tunnels}; connections are accepted for limits.lame_duck")
    } else if shared.journal.metrics.reload_successful.get() == 1 {
        format!("serving, {tunnels}")
    } else {
        format!("serving, {tunnels}; the last reload was refused, see the log")
    }
}

/// One line of bounded length: a newline would begin another assignment.
fn sentence(text: &str) -> String {
    let line = text.split('\n').map(str::trim).filter(|l| !l.is_empty()).collect::<Vec<_>>().join("; ");
    match line.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}

fn send(message: &Message) -> std::io::Result<()> {
    match message {
        Message::Ready(status) => sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(status)]),
        Message::Reloading => {
            sd_notify::notify(&[NotifyState::Reloading, NotifyState::monotonic_usec_now()?])
        }
        Message::Stopping(status) => sd_notify::notify(&[NotifyState::Stopping, NotifyState::Status(status)]),
        Message::Status(status) => sd_notify::notify(&[NotifyState::Status(status)]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_is_one_line_and_never_an_assignment() {
        assert_eq!(sentence("a: wrong\nREADY=1\n\n b "), "a: wrong; READY=1; b");
        assert_eq!(sentence(&"ä".repeat(400)).chars().count(), LONGEST + 1);
    }
}
