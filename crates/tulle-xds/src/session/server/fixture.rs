//! A small world that the tests of both servers edit and serve.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::super::message::{Name, ResourceType};
use super::{Served, View};

/// Resources by type and name, aliases, and what a wildcard stands for.
#[derive(Default)]
pub struct Shelf {
    bodies: BTreeMap<(ResourceType, Name), String>,
    aliases: BTreeMap<(ResourceType, Name), Name>,
    listed: BTreeSet<(ResourceType, Name)>,
    /// What [`View::rewarms`] says.
    pub rewarms: bool,
}

impl Shelf {
    pub fn put(&mut self, rtype: ResourceType, name: &str, body: &str) -> &mut Shelf {
        self.bodies.insert((rtype, name.into()), body.into());
        self
    }

    /// Puts a resource that is part of the wildcard.
    pub fn list(&mut self, rtype: ResourceType, name: &str, body: &str) -> &mut Shelf {
        self.listed.insert((rtype, name.into()));
        self.put(rtype, name, body)
    }

    pub fn alias(&mut self, rtype: ResourceType, alias: &str, name: &str) -> &mut Shelf {
        self.aliases.insert((rtype, alias.into()), name.into());
        self
    }

    pub fn remove(&mut self, rtype: ResourceType, name: &str) -> &mut Shelf {
        self.bodies.remove(&(rtype, name.into()));
        self.listed.remove(&(rtype, name.into()));
        self
    }
}

impl View for Shelf {
    fn resource(&self, rtype: ResourceType, name: &str) -> Option<Served> {
        let asked = (rtype, Name::from(name));
        let canonical = self.aliases.get(&asked).cloned().unwrap_or(asked.1);
        let body = self.bodies.get(&(rtype, canonical.clone()))?;
        let body_bytes = Bytes::copy_from_slice(body.as_bytes());
        Some(Served { name: canonical, version: body.as_str().into(), body: body_bytes })
    }

    fn rewarms(&self) -> bool {
        self.rewarms
    }

    fn wildcard(&self, rtype: ResourceType) -> Vec<Name> {
        self.listed.iter().filter(|(t, _)| *t == rtype).map(|(_, name)| name.clone()).collect()
    }

    fn in_wildcard(&self, rtype: ResourceType, name: &str) -> bool {
        self.listed.contains(&(rtype, name.into()))
    }
}
