//! Runs what HTTP/2 does for each request.

use std::task::{Context, Waker};

use hyper::rt::Executor;

/// Runs a future at once, where it is, and only what must wait in a task of its own. Most answers are there already: a task would be made, queued, run
/// and taken apart for each of them, and the connection run again to send what came of it.
///
/// No connection runs more of them in a row than it may have streams.
#[derive(Debug, Clone, Copy)]
pub(super) struct AtOnce;

impl<F> Executor<F> for AtOnce
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, future: F) {
        let mut future = Box::pin(future);
        // Nobody is to be woken: the task asks again when it begins.
        if future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            tokio::spawn(future);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[test]
    fn what_is_ready_needs_no_runtime() {
        let (sender, mut receiver) = oneshot::channel();
        AtOnce.execute(async move { sender.send("done") });
        assert_eq!(receiver.try_recv(), Ok("done"));
    }

    #[tokio::test]
    async fn what_waits_is_woken() {
        let (first, wait) = oneshot::channel();
        let (sender, receiver) = oneshot::channel();
        AtOnce.execute(async move { sender.send(wait.await) });
        first.send("something to wait for").expect("it waits");
        assert_eq!(receiver.await.expect("it ended"), Ok("something to wait for"));
    }
}
