//! What the delta and the state-of-the-world client cores have in common.
//!
//! A core is driven by [`Event`]s and answers with [`Action`]s. It knows which names are wanted,
//! what is held in which version and what must be said on the wire; the decoded values live with
//! its caller.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::message::{Name, Resource, ResourceType};

/// A name nobody refers to and nobody used is unsubscribed after this time.
pub const UNUSED_LIMIT: Duration = Duration::from_secs(300);
/// A name that the server leaves unanswered for this time counts as absent until it is answered
/// (`xds_protocol.rst` recommends 15 s).
pub const UNANSWERED_LIMIT: Duration = Duration::from_secs(15);
/// Names asked for by traffic that were answered "does not exist" and are still subscribed.
pub const NEGATIVE_NAMES_LIMIT: usize = 4_096;
/// Names that only traffic asked for, whatever is known of them, with or without a stream;
/// enforced every [`TICK_EVERY`]. More than [`NEW_NAMES_PER_SECOND`] admits in two minutes, so that
/// what is in use, and said to be once a minute, is never among the oldest.
pub const USED_NAMES_LIMIT: usize = 16_384;
/// New names that traffic may ask for, per second and proxy; also the burst.
pub const NEW_NAMES_PER_SECOND: u32 = 100;
/// New names beyond these that wait until they may be asked for; more are refused. What
/// [`NEW_NAMES_PER_SECOND`] admits in [`WAITING_TIME_LIMIT`].
pub const WAITING_NAMES_LIMIT: usize = 300;
/// How long a name waits until it may be asked for. Who needs it waits 5 s, so there is time left
/// for an answer.
pub const WAITING_TIME_LIMIT: Duration = Duration::from_secs(3);
/// Responses handed out for applying and not yet applied; a server that goes on is disconnected.
pub const UNAPPLIED_LIMIT: usize = 64;
/// Bytes of `error_detail` in a NACK; what does not fit is counted, not named.
pub const ERROR_DETAIL_BYTES: usize = 4_096;
/// How often [`Event::Tick`] is to be fed to a core.
pub const TICK_EVERY: Duration = Duration::from_secs(1);

const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_LIMIT: Duration = Duration::from_secs(5);
/// The longest pause while an outage is young. Requests wait for a name that is new for some
/// seconds; a server that restarts meanwhile is to be found in that time.
const BACKOFF_EARLY_LIMIT: Duration = Duration::from_secs(1);
/// Attempts of a young outage: about the first ten seconds.
const BACKOFF_EARLY_ATTEMPTS: u32 = 14;

/// What a core knows about a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Not asked, or not answered yet.
    Unknown,
    /// It exists; the name is its canonical one.
    Present(Name),
    /// It does not exist for this client.
    Absent(AbsentReason),
}

/// Why a name is absent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AbsentReason {
    /// The server said so.
    NotFound,
    /// The only version ever received was rejected.
    Rejected(Arc<str>),
    /// No answer within [`UNANSWERED_LIMIT`].
    Unanswered,
    /// Traffic asks for more than [`NEW_NAMES_PER_SECOND`], and too many wait already or this one
    /// waited for too long; not subscribed, ask again later.
    TooManyNewNames,
}

/// Identifies one [`Delivery`] over all streams of a core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryId(pub(super) u64);

/// Resources to be decoded and applied; answered with [`Event::Applied`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// To be repeated in [`Event::Applied`].
    pub id: DeliveryId,
    /// The type of all resources.
    pub rtype: ResourceType,
    /// New or changed resources; every one has a body.
    pub resources: Vec<Resource>,
    /// What is there no more when they are, by canonical names.
    pub removed: Vec<Name>,
}

/// What happens to a client core.
#[derive(Clone, Debug)]
pub enum Event<R> {
    /// A stream is open.
    Connected,
    /// The stream ended, or could not be opened.
    Disconnected,
    /// A message came.
    Response(R),
    /// One more referrer needs this name ([`super::message::WILDCARD`] for all).
    Subscribe {
        /// Type of the name.
        rtype: ResourceType,
        /// The name needed.
        name: Name,
    },
    /// One referrer less needs this name; nobody used that referrer since the given time.
    Release {
        /// Type of the name.
        rtype: ResourceType,
        /// The name released.
        name: Name,
        /// From when the time without use counts.
        unused_since: Instant,
    },
    /// Traffic uses this name; subscribes it if it is new.
    Use {
        /// Type of the name.
        rtype: ResourceType,
        /// The name used.
        name: Name,
    },
    /// A delivery was decoded; the named resources were rejected, with the reason.
    Applied {
        /// The delivery.
        delivery: DeliveryId,
        /// Name and reason (field path first) of each rejected resource.
        rejected: Vec<(Name, String)>,
    },
    /// Time passed; to be fed every [`TICK_EVERY`].
    Tick,
}

/// What a client core wants done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action<Q> {
    /// Send this on the stream.
    Send(Q),
    /// Open a new stream after this time.
    Connect {
        /// How long to wait first.
        after: Duration,
    },
    /// End the stream: the server does not keep to a limit. [`Event::Disconnected`] follows.
    Close {
        /// What went wrong, for the log.
        reason: &'static str,
    },
    /// Decode these and feed [`Event::Applied`].
    Apply(Delivery),
    /// A resource that was applied does not exist any more, or is no longer of interest.
    Forget {
        /// Its type.
        rtype: ResourceType,
        /// Its canonical name.
        name: Name,
    },
    /// What is known about a subscribed name has changed. The wildcard becomes present with the
    /// first response of its type, whatever that contained.
    Answered {
        /// Its type.
        rtype: ResourceType,
        /// The name as it was subscribed.
        name: Name,
        /// What is known now.
        answer: Answer,
    },
}

/// A client core: one logical xDS session that outlives its streams.
pub trait ClientCore {
    /// The message it sends.
    type Request;
    /// The message it receives.
    type Response;

    /// Takes in an event. What must be said to the server is kept until [`ClientCore::flush`].
    fn take(
        &mut self,
        event: Event<Self::Response>,
        now: Instant,
        out: &mut Vec<Action<Self::Request>>,
    );

    /// Says what has to be said: names first, of all types, then ACKs.
    fn flush(&mut self, out: &mut Vec<Action<Self::Request>>);

    /// What is known about a name.
    fn answer(&self, rtype: ResourceType, name: &str) -> Answer;

    /// The subscribed names that lead to a resource held.
    fn asked_by(&self, rtype: ResourceType, canonical: &str) -> Vec<Name>;

    /// How long a name that nobody uses is kept.
    fn unused_limit(&self) -> Duration {
        UNUSED_LIMIT
    }

    /// Takes in an event and says what has to be said.
    fn handle(&mut self, event: Event<Self::Response>, now: Instant) -> Vec<Action<Self::Request>> {
        let mut out = Vec::new();
        self.take(event, now, &mut out);
        self.flush(&mut out);
        out
    }
}

/// The streams of a session, one after the other.
#[derive(Debug)]
pub(super) struct Streams {
    connected: bool,
    /// When the last stream ended.
    ended_at: Option<Instant>,
    /// Whether the node was sent on this stream.
    introduced: bool,
    /// Counts streams, so that what belongs to an old one is recognised.
    number: u64,
    attempt: u32,
    seed: u64,
}

impl Streams {
    pub(super) fn new(seed: u64) -> Streams {
        Streams { connected: false, ended_at: None, introduced: false, number: 0, attempt: 0, seed }
    }

    pub(super) fn connected(&self) -> bool {
        self.connected
    }

    /// The number of the newest stream, open or not.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// A stream is open; returns for how long there was none.
    pub(super) fn open(&mut self, now: Instant) -> Duration {
        self.connected = true;
        self.introduced = false;
        self.number += 1;
        self.ended_at.take().map_or(Duration::ZERO, |ended_at| now.duration_since(ended_at))
    }

    /// The stream ended; returns how long to wait before the next.
    pub(super) fn end(&mut self, now: Instant) -> Duration {
        self.connected = false;
        self.ended_at.get_or_insert(now);
        let after = backoff(self.attempt, self.seed);
        self.attempt = self.attempt.saturating_add(1);
        after
    }

    /// The server spoke: the next reconnection is the first of a new row.
    pub(super) fn alive(&mut self) {
        self.attempt = 0;
    }

    /// Whether the next message must carry the node; it is taken to be sent.
    pub(super) fn introduce(&mut self) -> bool {
        !std::mem::replace(&mut self.introduced, true)
    }
}

/// How long to wait before the given attempt to reconnect (0 is the first): exponential from
/// 100 ms to 1 s, after about ten seconds 5 s, of which the upper half is random. The same seed
/// gives the same times.
pub fn backoff(attempt: u32, seed: u64) -> Duration {
    let limit = match attempt {
        ..BACKOFF_EARLY_ATTEMPTS => BACKOFF_EARLY_LIMIT,
        _ => BACKOFF_LIMIT,
    };
    let step = BACKOFF_FIRST.saturating_mul(1 << attempt.min(16)).min(limit);
    let half = step / 2;
    let random = splitmix(seed ^ u64::from(attempt).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let share = Duration::from_micros(random % (half.as_micros() as u64 + 1));
    half + share
}

/// Where the state of one type reports what changed.
pub(super) struct Changes<'a, Q> {
    pub(super) rtype: ResourceType,
    pub(super) out: &'a mut Vec<Action<Q>>,
}

impl<Q> Changes<'_, Q> {
    pub(super) fn forget(&mut self, name: Name) {
        self.out.push(Action::Forget { rtype: self.rtype, name });
    }

    pub(super) fn answered(&mut self, name: &Name, answer: Answer) {
        self.out.push(Action::Answered { rtype: self.rtype, name: name.clone(), answer });
    }
}

/// Says that a new name cannot be asked for now.
pub(super) fn refuse<Q>((rtype, name): (ResourceType, Name), out: &mut Vec<Action<Q>>) {
    let answer = Answer::Absent(AbsentReason::TooManyNewNames);
    out.push(Action::Answered { rtype, name, answer });
}

/// The error text of a NACK: every rejected resource with its reason, as far as there is room.
pub(super) fn describe_rejected(rejected: &[(Name, String)]) -> String {
    let mut text = String::new();
    for (index, (name, why)) in rejected.iter().enumerate() {
        let line = format!("{name}: {why}");
        if text.len() + line.len() + 1 > ERROR_DETAIL_BYTES {
            let room = ERROR_DETAIL_BYTES.saturating_sub(text.len() + 40);
            text.push_str(&line[..line.floor_char_boundary(room.min(line.len()))]);
            text.push_str(&format!(" … {} more", rejected.len() - index - 1));
            break;
        }
        if index > 0 {
            text.push('\n');
        }
        text.push_str(&line);
    }
    text
}

/// A name that a response contains twice, which is an error of the server.
pub(super) fn duplicate(resources: &[Resource]) -> Option<&Name> {
    let mut seen = BTreeSet::new();
    resources.iter().map(|resource| &resource.name).find(|name| !seen.insert(*name))
}

/// The finaliser of splitmix64 (Steele, Lea, Flood 2014): spreads a seed over all bits.
fn splitmix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
#[path = "client/tests.rs"]
mod tests;
