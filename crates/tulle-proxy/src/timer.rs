//! One timer for many deadlines.
//!
//! A deadline that moves away with every request must not cost a timer operation each time: the
//! timer is armed once and, when it fires too early, armed again for what is left.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::task::coop::unconstrained;
use tokio::time::{Instant, Sleep, sleep_until};

/// A timer that is armed lazily. One allocation in its life, made when it is first needed.
#[derive(Debug, Default)]
pub struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
    /// Whom it wakes when it fires.
    waker: Option<Waker>,
}

impl Timer {
    /// Comes back at `deadline`; never for `None`.
    pub async fn wait(&mut self, deadline: Option<Instant>) {
        let Some(deadline) = deadline else { return std::future::pending().await };
        poll_fn(|cx| self.poll(cx, deadline)).await;
    }

    /// Ready at `deadline`.
    pub fn poll(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        loop {
            let wakes = self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
            if sleep.deadline() > deadline {
                sleep.as_mut().reset(deadline);
            } else if wakes && !sleep.is_elapsed() {
                // It was told before whom to wake.
                return Poll::Pending;
            }
            // Without budget it would not even hear whom to wake.
            if Pin::new(&mut unconstrained(sleep.as_mut())).poll(cx).is_pending() {
                if !wakes {
                    self.waker = Some(cx.waker().clone());
                }
                return Poll::Pending;
            }
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            // Having fired it knows nobody any more.
            self.waker = None;
            sleep.as_mut().reset(deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::time::Duration;

    use tokio::task::coop::{consume_budget, has_budget_remaining};

    use super::*;

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn it_fires_for_a_task_that_had_used_up_its_budget() {
        let deadline = Instant::now() + Duration::from_secs(1);
        let (mut timer, mut is_spent) = (Timer::default(), false);
        let fires = poll_fn(|cx| {
            while !is_spent && has_budget_remaining() {
                let _ = pin!(consume_budget()).poll(cx);
            }
            is_spent = true;
            timer.poll(cx, deadline)
        });
        tokio::time::timeout(Duration::from_secs(9), fires).await.expect("it fires");
    }

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn deadlines_may_move_either_way() {
        let start = Instant::now();
        let at = |seconds| Some(start + Duration::from_secs(seconds));
        let mut timer = Timer::default();
        timer.wait(at(1)).await;
        timer.wait(at(5)).await;
        assert_eq!(start.elapsed().as_secs(), 5);
        let far = tokio::time::timeout(Duration::from_secs(1), timer.wait(at(60)));
        assert!(far.await.is_err());
        timer.wait(at(8)).await;
        assert_eq!(start.elapsed().as_secs(), 8, "armed for 60, due at 8");
        timer.wait(at(2)).await;
        assert_eq!(start.elapsed().as_secs(), 8, "what is past is due at once");
    }
}
