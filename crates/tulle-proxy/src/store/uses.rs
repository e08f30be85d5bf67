//! Which listener names the traffic of a worker uses, so that they are not given up while only
//! long-lived connections use them.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use tulle_xds::session::message::Name;

/// A name is in use for as long as one of these lives, and once more after that.
#[derive(Clone, Debug)]
pub struct Use(Rc<Cell<bool>>);

/// The names in use; as many as there are listeners that traffic was handed to lately.
#[derive(Debug, Default)]
pub struct Uses(RefCell<HashMap<Name, Use>>);

impl Uses {
    /// Traffic uses `name`. Allocates only for a name that was not in use.
    pub fn touch(&self, name: &str) -> Use {
        let mut names = self.0.borrow_mut();
        if let Some(used) = names.get(name) {
            used.0.set(true);
            return used.clone();
        }
        let used = Use(Rc::new(Cell::new(true)));
        names.insert(name.into(), used.clone());
        used
    }

    /// The names that were used since this was asked last, or still are.
    pub fn in_use(&self) -> Vec<Name> {
        let mut names = self.0.borrow_mut();
        names.retain(|_, used| used.0.replace(false) || Rc::strong_count(&used.0) > 1);
        names.keys().cloned().collect()
    }
}

#[cfg(test)]
#[path = "uses/tests.rs"]
mod tests;
