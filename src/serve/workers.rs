//! The threads that carry the tunnels: one event loop for each core. A tunnel never changes threads,
//! and workers share nothing but the sockets that they accept from.

use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::{io, thread};

use tokio::runtime;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::proxy::listener::{Service, Stop, accept_all};
use crate::proxy::shared::Shared;
use crate::proxy::timer;

/// How many workers there are.
pub(super) fn count() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// A listener for a worker to accept from.
struct Assignment {
    listener: StdListener,
    service: Service,
    stop: Stop,
}

/// All workers; they end only with the process.
pub(super) struct Workers(Vec<UnboundedSender<Assignment>>);

impl Workers {
    /// Starts one worker for each core.
    pub(super) fn start(shared: &Arc<Shared>) -> io::Result<Self> {
        let start = |i| {
            let (sender, assignments) = unbounded_channel();
            let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
            let shared = shared.clone();
            let work = move || runtime.block_on(work(assignments, shared));
            thread::Builder::new().name(format!("worker-{i}")).spawn(work)?;
            Ok(sender)
        };
        (0..count()).map(start).collect::<io::Result<_>>().map(Self)
    }

    /// Lets each of them accept from one of the sockets, which are copies of one listener.
    pub(super) fn accept(&self, sockets: Vec<StdListener>, service: &Service, stop: &Stop) {
        for (worker, listener) in self.0.iter().zip(sockets) {
            // The receiver lives as long as its worker: as long as the process.
            let _ = worker.send(Assignment { listener, service: service.clone(), stop: stop.clone() });
        }
    }
}

async fn work(mut assignments: UnboundedReceiver<Assignment>, shared: Arc<Shared>) {
    tokio::spawn(timer::run());
    while let Some(Assignment { listener, service, stop }) = assignments.recv().await {
        tokio::spawn(accept_all(listener, service, shared.clone(), stop));
    }
}
