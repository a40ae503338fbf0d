//! A request's answer, as a future: most are there at once, and cost none.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{Method, Response, Version};
use tokio::time::Instant;

use super::activity::{Counted, InFlight, WaitedFor};
use super::body::Body;
use super::handler::Edge;
use super::metrics::{Kind, Metrics};
use super::{respond, trace};

/// An answer that somebody has yet to make.
pub(crate) type Coming = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

/// An answer.
pub(crate) enum Reply {
    /// It is there.
    Now(Response<Body>),
    /// It will be.
    Later(Coming),
    /// It will be when there is media: a viewer who leaves meanwhile is let go of.
    Held(Coming),
}

impl From<Response<Body>> for Reply {
    fn from(response: Response<Body>) -> Self {
        Self::Now(response)
    }
}

/// What is known of a request when it has come, and needed when it is answered.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) kind: Kind,
    pub(crate) method: Method,
    pub(crate) version: Version,
    /// When it came.
    pub(crate) at: Instant,
}

impl Question {
    /// Counts `response`, and gives it what every answer carries.
    fn end(&self, metrics: &Metrics, response: Response<Body>) -> Response<Body> {
        metrics.answered(self.kind, response.status(), self.version);
        trace::answered(self.kind, response.status(), self.at);
        respond::finish(&self.method, response)
    }
}

/// The answer to a question, counted and complete. Gives it once.
pub struct Answer(State);

enum State {
    Now(Response<Body>),
    Later { coming: Coming, question: Question, edge: Arc<Edge>, held: bool },
    Given,
}

impl Answer {
    pub(crate) fn new(edge: &Arc<Edge>, question: Question, reply: Reply) -> Self {
        let (coming, held) = match reply {
            Reply::Now(response) => return Self(State::Now(question.end(&edge.metrics, response))),
            Reply::Later(coming) => (coming, false),
            Reply::Held(coming) => (coming, true),
        };
        Self(State::Later { coming, question, edge: Arc::clone(edge), held })
    }

    /// Whether it waits for media.
    fn is_held(&self) -> bool {
        matches!(self.0, State::Later { held: true, .. })
    }

    /// Bytes that it holds.
    #[cfg(test)]
    pub(crate) fn size(&self) -> usize {
        size_of_val(self) + if let State::Later { coming, .. } = &self.0 { size_of_val(&**coming) } else { 0 }
    }
}

impl Future for Answer {
    type Output = Response<Body>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Response<Body>> {
        let come = match &mut self.0 {
            State::Later { coming, question, edge, .. } => {
                let response = ready!(coming.as_mut().poll(cx));
                Some(question.end(&edge.metrics, response))
            }
            State::Now(_) | State::Given => None,
        };
        match (come, std::mem::replace(&mut self.0, State::Given)) {
            (Some(response), _) | (None, State::Now(response)) => Poll::Ready(response),
            (None, _) => Poll::Pending,
        }
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.0 {
            State::Now(_) => "now",
            State::Later { .. } => "later",
            State::Given => "given",
        };
        f.debug_tuple("Answer").field(&state).finish()
    }
}

/// An answer whose body tells how it is taken.
#[derive(Debug)]
pub(crate) struct Counting {
    answer: Answer,
    /// Goes with the body.
    request: Option<InFlight>,
}

impl Counting {
    /// The answer to `request`, of which nothing more will come where it is `whole`.
    pub(crate) fn new(answer: Answer, request: InFlight, whole: bool) -> Self {
        if whole && !answer.is_held() {
            request.owe();
        }
        Self { answer, request: Some(request) }
    }
}

impl Future for Counting {
    type Output = Result<Response<Counted>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let response = ready!(Pin::new(&mut self.answer).poll(cx));
        let Some(request) = self.request.take() else { return Poll::Pending };
        request.owe();
        let waited = response.extensions().get::<WaitedFor>().copied();
        Poll::Ready(Ok(response.map(|body| Counted::new(body, request, waited))))
    }
}
