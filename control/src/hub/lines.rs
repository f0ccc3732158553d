//! A response body that is written as it is read: the next line is made when the last one has been taken.
//!
//! The producer runs within the task of its connection, so a stream costs no task of its own, and a reader that
//! does not read stops the producer and nobody else.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame};
use thiserror::Error;

/// The stream is over before its end: the connection is cut, so that the reader notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the stream was cut: {0}")]
pub(crate) struct Cut(pub(crate) &'static str);

/// Where the producer leaves a line.
#[derive(Clone, Default)]
pub(crate) struct Pen(Arc<Mutex<Option<Bytes>>>);

impl Pen {
    /// Returns when the line has been taken and the reader is ready for another.
    pub(crate) async fn put(&self, line: impl Into<Bytes>) {
        *self.slot() = Some(line.into());
        // No waker: the producer is polled exactly when another line is wanted.
        poll_fn(|_| if self.slot().is_some() { Poll::Pending } else { Poll::Ready(()) }).await;
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<Bytes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Producer = Pin<Box<dyn Future<Output = Result<(), Cut>> + Send>>;

/// The body.
pub(crate) struct Lines {
    pen: Pen,
    producer: Option<Producer>,
}

impl Lines {
    /// The lines that a producer leaves with its pen. One that fails cuts the connection.
    pub(crate) fn new<F>(producer: impl FnOnce(Pen) -> F) -> Self
    where
        F: Future<Output = Result<(), Cut>> + Send + 'static,
    {
        let pen = Pen::default();
        let producer: Producer = Box::pin(producer(pen.clone()));
        Self { pen, producer: Some(producer) }
    }
}

impl Body for Lines {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let Some(producer) = self.producer.as_mut() else { return Poll::Ready(None) };
        let done = producer.as_mut().poll(context);
        if let Some(line) = self.pen.slot().take() {
            return Poll::Ready(Some(Ok(Frame::data(line))));
        }
        let result = ready!(done);
        self.producer = None;
        Poll::Ready(result.err().map(Err))
    }

    fn is_end_stream(&self) -> bool {
        self.producer.is_none()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http_body_util::BodyExt as _;

    use super::*;

    fn block_on<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    #[test]
    fn lines_are_made_only_as_they_are_taken() {
        let made = Arc::new(AtomicUsize::new(0));
        let count = made.clone();
        let mut lines = Lines::new(|pen| async move {
            for line in ["a\n", "b\n", "c\n"] {
                count.fetch_add(1, Ordering::Relaxed);
                pen.put(line).await;
            }
            Ok(())
        });
        block_on(async {
            for (taken, expected) in ["a\n", "b\n", "c\n"].into_iter().enumerate() {
                let frame = lines.frame().await.unwrap().unwrap().into_data().unwrap();
                assert_eq!((frame, made.load(Ordering::Relaxed)), (Bytes::from(expected), taken + 1));
            }
            assert!(lines.frame().await.is_none());
        });
    }

    #[test]
    fn a_stream_that_is_cut_ends_with_an_error_after_what_was_written() {
        let mut lines = Lines::new(|pen| async move {
            pen.put("a\n").await;
            Err(Cut("gone"))
        });
        block_on(async {
            assert!(lines.frame().await.unwrap().is_ok());
            assert_eq!(lines.frame().await.unwrap().unwrap_err(), Cut("gone"));
            assert!(lines.frame().await.is_none());
        });
    }
}
