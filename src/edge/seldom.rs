//! A future that is asked only when it has something to say.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use parking_lot::Mutex;

/// Polls a future when it has called its waker, and at no other time. A task that waits for several things at once asks each of them whenever one of them
/// wakes it: for a connection, which is woken by every request, that is the clock and the signal to stop each time, and the locks that all connections
/// share behind them.
#[derive(Debug)]
pub(crate) struct Seldom<F> {
    future: Pin<Box<F>>,
    call: Arc<Call>,
    /// What the future is given to call: `call`.
    waker: Waker,
    /// The task that `call` wakes.
    task: Option<Waker>,
}

#[derive(Debug)]
struct Call {
    called: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl Wake for Call {
    fn wake(self: Arc<Self>) {
        // Before the task is woken, which may look at once in another thread.
        self.called.store(true, Ordering::Release);
        let task = self.task.lock().clone();
        if let Some(task) = task {
            task.wake();
        }
    }
}

impl<F: Future> Seldom<F> {
    pub(crate) fn new(future: F) -> Self {
        // Nobody calls before the first poll.
        let call = Arc::new(Call { called: AtomicBool::new(true), task: Mutex::new(None) });
        Self { future: Box::pin(future), waker: Waker::from(Arc::clone(&call)), call, task: None }
    }
}

impl<F: Future> Future for Seldom<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let me = &mut *self;
        if !me.task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            me.task = Some(cx.waker().clone());
            *me.call.task.lock() = Some(cx.waker().clone());
        }
        // Looked at behind the task's change: a call before it is seen here, one after it wakes the new task.
        if !me.call.called.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        // A swap, which sees all that the newest of several calls was about.
        me.call.called.swap(false, Ordering::AcqRel);
        me.future.as_mut().poll(&mut Context::from_waker(&me.waker))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn a_future_is_asked_once_for_each_call() {
        let (sender, mut receiver) = tokio::sync::mpsc::channel(2);
        let mut asked = 0;
        let mut sum = 0;
        let mut seldom = std::pin::pin!(Seldom::new(poll_fn(|cx| {
            asked += 1;
            while let Poll::Ready(Some(number)) = receiver.poll_recv(cx) {
                sum += number;
            }
            if sum == 3 { Poll::Ready(()) } else { Poll::Pending }
        })));
        let poll = |seldom: Pin<&mut _>| -> Poll<()> {
            let mut cx = Context::from_waker(Waker::noop());
            Future::poll(seldom as Pin<&mut Seldom<_>>, &mut cx)
        };
        for number in [1, 2] {
            for _ in 0..5 {
                assert!(poll(seldom.as_mut()).is_pending());
            }
            sender.try_send(number).expect("it listens");
        }
        seldom.await;
        assert_eq!(asked, 3);
    }

    #[tokio::test]
    async fn the_task_that_asked_last_is_woken() {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let mut seldom = Seldom::new(receiver);
        assert!(Pin::new(&mut seldom).poll(&mut Context::from_waker(Waker::noop())).is_pending());
        let waiting = tokio::spawn(seldom);
        tokio::task::yield_now().await;
        sender.send("word").expect("it waits");
        assert_eq!(waiting.await.expect("it ended"), Ok("word"));
    }
}
