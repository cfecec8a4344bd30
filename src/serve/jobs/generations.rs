//! Asks the processes before this one how they do, so that what one counted is known when it dies.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::block_in_place;
use tokio::time::sleep;

use crate::admin::Admin;

const EVERY: Duration = Duration::from_secs(2);

/// Runs as long as the process.
pub(in crate::serve) async fn run(admin: Arc<Admin>) {
    // A scrape that asks one of them holds the list meanwhile: DNS shares this thread.
    while !block_in_place(|| admin.generations.living().is_empty()) {
        sleep(EVERY).await;
        block_in_place(|| admin.generations.refresh());
    }
}
