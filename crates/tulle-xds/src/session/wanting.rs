//! What both client cores do about names that traffic uses, and about names as time passes; what is
//! said on the wire of it is theirs.

use std::time::{Duration, Instant};

use super::client::{AbsentReason, Action, Answer, Changes, refuse};
use super::interest::Interest;
use super::message::{Name, PerType, ResourceType};
use super::new_names::NewNames;

/// The names of one type, as a core keeps them.
pub(super) trait Wanting {
    /// What it sends.
    type Request;

    /// Which names are wanted, and why.
    fn interest(&mut self) -> &mut Interest;
    /// A name is wanted that was not.
    fn gain(&mut self, name: Name, changes: &mut Changes<'_, Self::Request>);
    /// A name is wanted no longer.
    fn lose_interest(&mut self, name: &Name, changes: &mut Changes<'_, Self::Request>);
    /// Something is known about a wanted name.
    fn learn(&mut self, name: &Name, answer: Answer, changes: &mut Changes<'_, Self::Request>);
}

/// How things stand as time passes.
#[derive(Clone, Copy)]
pub(super) struct Moment {
    pub(super) now: Instant,
    pub(super) connected: bool,
    /// A response of the type is applied: what it repeats is not decoded and must stay held.
    pub(super) applying: bool,
    /// How long a name that nobody uses is kept.
    pub(super) unused_limit: Duration,
}

/// Traffic uses a name, which waits for its turn if it is new.
pub(super) fn use_name<W: Wanting>(
    wanting: &mut W,
    new_names: &mut NewNames,
    (rtype, name): (ResourceType, Name),
    now: Instant,
    out: &mut Vec<Action<W::Request>>,
) {
    if wanting.interest().contains(&name) {
        wanting.interest().use_name(&name, now);
    } else if let Some(refused) = new_names.offer((rtype, name), now) {
        refuse(refused, out);
    }
}

/// Asks for the names that waited and need to wait no longer.
pub(super) fn ask_for_new<W: Wanting>(
    all: &mut PerType<W>,
    new_names: &mut NewNames,
    now: Instant,
    out: &mut Vec<Action<W::Request>>,
) {
    while let Some((rtype, name)) = new_names.next(now) {
        let wanting = &mut all[rtype];
        if wanting.interest().use_name(&name, now) {
            wanting.gain(name, &mut Changes { rtype, out });
        }
    }
}

/// Drops what is too much or too old, and gives up waiting for answers that do not come.
pub(super) fn pass_time<W: Wanting>(
    wanting: &mut W,
    moment: Moment,
    changes: &mut Changes<'_, W::Request>,
) {
    let Moment { now, connected, applying, unused_limit } = moment;
    if !applying {
        let mut dropped = wanting.interest().used_too_many();
        if connected {
            dropped.extend(wanting.interest().expired(now, unused_limit));
        }
        for name in dropped {
            wanting.lose_interest(&name, changes);
        }
    }
    let unanswered = if connected { wanting.interest().unanswered(now) } else { Vec::new() };
    for name in unanswered {
        wanting.learn(&name, Answer::Absent(AbsentReason::Unanswered), changes);
    }
}
