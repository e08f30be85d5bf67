//! Waiting for a state with a deadline: the only way a test waits.

use std::future::Future;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::{Instant, sleep, timeout};

/// Nobody waits longer than this for something that should happen at once.
pub const SOON: Duration = Duration::from_secs(10);
/// How often a state is looked at.
const POLL: Duration = Duration::from_millis(5);

/// Looks at a state until it is there.
///
/// # Errors
/// When `limit` has passed; the message names `what`.
pub async fn until<T, F>(what: &str, limit: Duration, mut look: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Option<T>>,
{
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = look().await {
            return Ok(found);
        }
        if Instant::now() >= end {
            bail!("waited {limit:?} in vain for: {what}");
        }
        sleep(POLL).await;
    }
}

/// Bounds a future that should end by itself.
///
/// # Errors
/// When `limit` has passed; the message names `what`.
pub async fn within<T>(what: &str, limit: Duration, work: impl Future<Output = T>) -> Result<T> {
    match timeout(limit, work).await {
        Ok(done) => Ok(done),
        Err(_) => bail!("waited {limit:?} in vain for: {what}"),
    }
}
