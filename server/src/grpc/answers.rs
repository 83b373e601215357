//! Answers that are streams: made beside them, so many at a time as are read.

use std::pin::Pin;

use futures_util::{Stream, StreamExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status};

use super::status;
use crate::tasks::caught;
use coordinator::Error;

/// A stream of answers.
pub(super) type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Answers that may wait for a client to read them.
const QUEUE: usize = 64;

/// Runs `produce` beside the stream that it feeds; its error is the stream's end.
pub(super) fn answers<T, M, F>(
    produce: impl FnOnce(mpsc::Sender<T>) -> F,
    convert: impl Fn(T) -> M + Send + 'static,
) -> Response<Answers<M>>
where
    T: Send + 'static,
    M: Send + 'static,
    F: Future<Output = Result<(), Error>> + Send + 'static,
{
    let (to, from) = mpsc::channel(QUEUE);
    let (end, ended) = tokio::sync::oneshot::channel();
    let produced = produce(to);
    tokio::spawn(async move {
        // Half an answer is not to look like a whole one.
        let produced = caught("answering somebody", produced).await;
        if let Err(error) = produced.unwrap_or(Err(Error::BrokeDown)) {
            // The client may have gone.
            let _ = end.send(status(error));
        }
    });
    let values = ReceiverStream::new(from).map(move |value| Ok(convert(value)));
    let end = futures_util::stream::once(ended).filter_map(|end| async move { end.ok().map(Err) });
    Response::new(Box::pin(values.chain(end)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use futures_util::TryStreamExt;

    use super::*;

    #[tokio::test]
    async fn who_reads_nothing_has_few_answers_waiting_and_gets_all_of_them_later() {
        let made = Arc::new(AtomicUsize::new(0));
        let counted = made.clone();
        let produce = |to: mpsc::Sender<usize>| async move {
            for number in 0..10 * QUEUE {
                if to.send(number).await.is_err() {
                    break;
                }
                counted.store(number + 1, Ordering::SeqCst);
            }
            Ok(())
        };
        let answers = answers(produce, |number| number).into_inner();
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(made.load(Ordering::SeqCst), QUEUE);
        let all: Vec<usize> = answers.try_collect().await.expect("all of them");
        assert_eq!(all, (0..10 * QUEUE).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn an_answer_that_breaks_down_does_not_look_whole() {
        let produce = |to: mpsc::Sender<usize>| async move {
            to.send(1).await.expect("somebody reads");
            panic!("a defect, made for the test");
        };
        let mut answers = answers(produce, |number| number).into_inner();
        assert!(matches!(answers.next().await, Some(Ok(1))));
        let status = answers.next().await.expect("an end").expect_err("not the whole");
        assert_eq!(status.code(), tonic::Code::Internal);
        assert!(status.message().contains("a defect of Farrier"), "{status}");
    }
}
