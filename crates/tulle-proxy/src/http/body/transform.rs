//! A body that a filter changes on its way: pulled through the filter, so that whoever pulls slowly
//! slows its sender.

use std::task::{Context, Poll};

use super::pace::Pace;
use super::{Body, Piece};
use crate::http::codec::abort::Abort;
#[cfg(test)]
use crate::http::filter::tests::probe::Rewrite;

/// A body and what changes it.
#[derive(Debug)]
pub struct Transform<'c> {
    pub(super) source: Body<'c>,
    pub(super) by: Transformer,
}

/// The closed set of changes that are made to bodies on their way.
#[derive(Debug)]
pub enum Transformer {
    /// The same bytes, more slowly.
    Pace(Pace),
    /// What a test asks for.
    #[cfg(test)]
    Rewrite(Rewrite),
}

impl Transformer {
    /// Whether the body stays as long as it was.
    #[must_use]
    pub fn keeps_length(&self) -> bool {
        match self {
            Self::Pace(_) => true,
            #[cfg(test)]
            Self::Rewrite(_) => false,
        }
    }
}

impl Transform<'_> {
    /// An abort of the source is passed on as it is: what was changed so far is no whole body.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, Abort>> {
        match &mut self.by {
            Transformer::Pace(pace) => pace.poll_next(cx, &mut self.source),
            #[cfg(test)]
            Transformer::Rewrite(rewrite) => rewrite.poll_next(cx, &mut self.source),
        }
    }

    pub(super) fn data(&self) -> &[u8] {
        match &self.by {
            Transformer::Pace(pace) => pace.data(&self.source),
            #[cfg(test)]
            Transformer::Rewrite(rewrite) => rewrite.data(),
        }
    }
}
