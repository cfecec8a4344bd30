//! Asks the processes before this one how they do, so that what one counted is known when it dies.

use std::sync::Arc;
use std::time::Duration;

use crate::admin::Admin;

const EVERY: Duration = Duration::from_secs(2);

/// Runs as long as the process.
pub(in crate::serve) async fn run(admin: Arc<Admin>) {
    while !admin.generations.living().is_empty() {
        tokio::time::sleep(EVERY).await;
        tokio::task::block_in_place(|| admin.generations.refresh());
    }
}
