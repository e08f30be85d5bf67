//! Later.

use crate::oracle::Row;

pub(super) fn rows() -> Vec<Row> {
    Vec::new()
}
