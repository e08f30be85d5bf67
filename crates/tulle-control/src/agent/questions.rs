//! Questions: whoever wants to know something from a proxy asks here; the proxy's own stream
//! carries the question down and the parts of the answer up.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tulle_xds::proto::tulle::v1 as proto;

use crate::ingest::registry::{StreamId, WorkloadName};

/// Questions that may wait for one stream.
const QUESTIONS_QUEUED: usize = 16;
/// Questions that one stream may have open.
const MAX_OPEN: usize = 16;
/// Longest answer, in bytes.
pub const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;
/// How long a proxy may take to answer.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// What a proxy answers.
type Answered = Result<Vec<u8>, AskError>;

/// A question on its way to a proxy.
#[derive(Debug)]
pub(super) struct Asked {
    ask: proto::question::Ask,
    reply: oneshot::Sender<Answered>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// No stream.
    #[error("{0} is not connected")]
    NotConnected(WorkloadName),
    /// The proxy is connected and silent.
    #[error("the proxy did not answer within {} s", ANSWER_LIMIT.as_secs())]
    TimedOut,
    /// The stream ended before the answer.
    #[error("the proxy disconnected before it answered")]
    Disconnected,
    /// The proxy has other things to do.
    #[error("the proxy has {MAX_OPEN} questions to answer already")]
    Busy,
    /// The answer is longer than we keep.
    #[error("the answer has more than {MAX_ANSWER_BYTES} bytes")]
    TooLong,
    /// What the proxy says.
    #[error("the proxy says: {0}")]
    Refused(String),
}

/// The streams that can be asked, by workload; of several the newest.
#[derive(Debug, Default)]
pub struct Questions {
    streams: Mutex<BTreeMap<WorkloadName, (StreamId, mpsc::Sender<Asked>)>>,
}

impl Questions {
    /// Asks the proxy of `workload`.
    ///
    /// # Errors
    /// There is no answer, and why.
    pub async fn ask(&self, workload: &WorkloadName, ask: proto::question::Ask) -> Answered {
        let found = self.lock().get(workload).map(|(_, stream)| stream.clone());
        let stream = found.ok_or_else(|| AskError::NotConnected(workload.clone()))?;
        let (reply, answer) = oneshot::channel();
        stream.try_send(Asked { ask, reply }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => AskError::Busy,
            mpsc::error::TrySendError::Closed(_) => AskError::Disconnected,
        })?;
        match tokio::time::timeout(ANSWER_LIMIT, answer).await {
            Ok(Ok(answered)) => answered,
            Ok(Err(_)) => Err(AskError::Disconnected),
            Err(_) => Err(AskError::TimedOut),
        }
    }

    /// Sends the questions to `workload` to the stream `id` from now on.
    pub(super) fn open(&self, workload: &WorkloadName, id: StreamId) -> mpsc::Receiver<Asked> {
        let (send, receive) = mpsc::channel(QUESTIONS_QUEUED);
        self.lock().insert(workload.clone(), (id, send));
        receive
    }

    /// The stream `id` is gone.
    pub(super) fn close(&self, workload: &WorkloadName, id: StreamId) {
        let mut streams = self.lock();
        if streams.get(workload).is_some_and(|(holder, _)| *holder == id) {
            streams.remove(workload);
        }
    }

    /// The map; it is changed in single steps, so a panic elsewhere leaves it whole.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<WorkloadName, (StreamId, mpsc::Sender<Asked>)>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The questions of one stream that wait for their answer.
#[derive(Debug, Default)]
pub(super) struct Open {
    next: u64,
    waiting: BTreeMap<u64, Waiting>,
}

#[derive(Debug)]
struct Waiting {
    reply: oneshot::Sender<Answered>,
    parts: Vec<u8>,
}

impl Open {
    /// Numbers a question; `None` if the proxy has too many already.
    pub(super) fn number(&mut self, asked: Asked) -> Option<proto::Question> {
        self.waiting.retain(|_, waiting| !waiting.reply.is_closed());
        if self.waiting.len() >= MAX_OPEN {
            // Whoever asked may have gone.
            let _ = asked.reply.send(Err(AskError::Busy));
            return None;
        }
        self.next += 1;
        self.waiting.insert(self.next, Waiting { reply: asked.reply, parts: Vec::new() });
        Some(proto::Question { id: self.next, ask: Some(asked.ask) })
    }

    /// Takes in one part of an answer.
    pub(super) fn answer(&mut self, part: proto::Answer) {
        let Some(waiting) = self.waiting.get_mut(&part.id) else { return };
        let answered = match part.content {
            Some(proto::answer::Content::Error(error)) => Err(AskError::Refused(error)),
            Some(proto::answer::Content::Json(json)) => {
                waiting.parts.extend_from_slice(&json);
                match (waiting.parts.len() > MAX_ANSWER_BYTES, part.more) {
                    (true, _) => Err(AskError::TooLong),
                    (false, true) => return,
                    (false, false) => Ok(std::mem::take(&mut waiting.parts)),
                }
            }
            None => Err(AskError::Refused("nothing".to_owned())),
        };
        if let Some(waiting) = self.waiting.remove(&part.id) {
            // Whoever asked may have gone.
            let _ = waiting.reply.send(answered);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked() -> (Asked, oneshot::Receiver<Answered>) {
        let (reply, answer) = oneshot::channel();
        let ask = proto::question::Ask::ServerInfo(proto::question::ServerInfo {});
        (Asked { ask, reply }, answer)
    }

    fn part(id: u64, json: &'static [u8], more: bool) -> proto::Answer {
        let content = Some(proto::answer::Content::Json(json.into()));
        proto::Answer { id, content, more }
    }

    #[test]
    fn answers_are_joined_from_their_parts_in_any_order_of_questions() {
        let mut open = Open::default();
        let ((first, mut one), (second, mut two)) = (asked(), asked());
        let first = open.number(first).expect("room").id;
        let second = open.number(second).expect("room").id;
        open.answer(part(second, b"[1,", true));
        open.answer(part(first, b"{}", false));
        open.answer(part(99, b"?", false));
        open.answer(part(second, b"2]", false));
        assert_eq!(one.try_recv(), Ok(Ok(b"{}".to_vec())));
        assert_eq!(two.try_recv(), Ok(Ok(b"[1,2]".to_vec())));
    }

    #[test]
    fn questions_nobody_waits_for_make_room_and_others_are_told() {
        let mut open = Open::default();
        let mut kept = Vec::new();
        for _ in 0..MAX_OPEN {
            let (question, answer) = asked();
            assert!(open.number(question).is_some());
            kept.push(answer);
        }
        let (question, mut answer) = asked();
        assert!(open.number(question).is_none());
        assert_eq!(answer.try_recv(), Ok(Err(AskError::Busy)));
        kept.pop();
        let (question, _answer) = asked();
        assert!(open.number(question).is_some());
    }

    #[test]
    fn a_refusal_is_an_answer() {
        let mut open = Open::default();
        let (question, mut answer) = asked();
        let id = open.number(question).expect("room").id;
        let content = Some(proto::answer::Content::Error("no such kind".into()));
        open.answer(proto::Answer { id, content, more: false });
        assert_eq!(answer.try_recv(), Ok(Err(AskError::Refused("no such kind".into()))));
    }
}
