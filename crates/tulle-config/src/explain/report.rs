//! An explanation for those who read it: with the file and line behind each step.

use serde::Serialize;
use tulle_model::origin::Origin;

use super::{Decided, End, Explanation};
use crate::load::SourceMap;
use crate::object::{Kind, ObjectId};

/// An explanation as it is shown.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The steps, in order.
    pub steps: Vec<StepReport>,
    /// What was decided, field by field.
    pub decided: Decided,
    /// What comes out.
    pub end: End,
    /// Whether somebody answers.
    pub good: bool,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StepReport {
    /// What was decided on.
    pub about: &'static str,
    /// What came out.
    pub outcome: String,
    /// The object and field that made it so: `Kind namespace/name [field]`.
    pub origin: Option<String>,
    /// Where that stands.
    pub place: Option<PlaceReport>,
}

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlaceReport {
    /// The file.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1.
    pub column: u32,
}

impl Explanation {
    /// The explanation with the places of what made each step so.
    pub fn report(self, sources: &SourceMap) -> Report {
        let step = |step: tulle_model::trace::Step| StepReport {
            about: step.about,
            place: step.origin.as_ref().and_then(|origin| place(origin, sources)),
            origin: step.origin.as_ref().map(ToString::to_string),
            outcome: step.outcome,
        };
        let good = self.end.is_good();
        let steps = self.steps.into_iter().map(step).collect();
        Report { steps, decided: self.decided, end: self.end, good }
    }
}

fn place(origin: &Origin, sources: &SourceMap) -> Option<PlaceReport> {
    let kind = Kind::ALL.iter().find(|kind| *kind.as_str() == *origin.kind)?;
    let id = ObjectId::new(*kind, &origin.namespace, &origin.name);
    let found = sources.place(&id, &origin.field)?;
    let crate::tree::Position { line, column } = found.at;
    Some(PlaceReport { file: found.file.to_string(), line, column })
}
