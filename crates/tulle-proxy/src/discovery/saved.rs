//! What this proxy runs, kept on disk, so that it starts and serves while the control plane is
//! away (design D5). Resources only, no keys.
//!
//! The file is a sequence of length-delimited `DeltaDiscoveryResponse`s, one for each type; the
//! aliases of a resource are the names under which it was asked for.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message;
use tulle_xds::proto::Any;
use tulle_xds::proto::envoy::service::discovery::v3 as wire;
use tulle_xds::session::message::{Name, ResourceType, Version};

/// The file in the state directory.
const FILE: &str = "last-good.pb";

/// One resource as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct SavedResource {
    /// Its type.
    pub rtype: ResourceType,
    /// Its canonical name.
    pub name: Name,
    /// Its version.
    pub version: Version,
    /// The names under which it was asked for.
    pub asked: Vec<Name>,
    /// The encoded message.
    pub body: Bytes,
}

/// The state directory of one proxy.
#[derive(Clone, Debug)]
pub struct SavedState {
    path: PathBuf,
}

impl SavedState {
    /// In `directory`, which is made if it is missing.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn open(directory: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(directory)?;
        Ok(Self { path: directory.join(FILE) })
    }

    /// What an earlier process kept; nothing if there is no file.
    ///
    /// # Errors
    /// The file cannot be read, or is none of ours.
    pub fn load(&self) -> io::Result<Vec<SavedResource>> {
        let mut bytes = match std::fs::read(&self.path) {
            Ok(bytes) => Bytes::from(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut saved = Vec::new();
        while !bytes.is_empty() {
            let response = wire::DeltaDiscoveryResponse::decode_length_delimited(&mut bytes)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            let Some(rtype) = ResourceType::from_type_url(&response.type_url) else { continue };
            saved.extend(response.resources.into_iter().filter_map(|one| read(rtype, one)));
        }
        Ok(saved)
    }

    /// Keeps `resources` in place of what was kept before, as a whole or not at all.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, resources: &[SavedResource]) -> io::Result<()> {
        let mut by_type: BTreeMap<ResourceType, wire::DeltaDiscoveryResponse> = BTreeMap::new();
        for resource in resources {
            let response = by_type.entry(resource.rtype).or_default();
            response.type_url = resource.rtype.type_url().to_owned();
            response.resources.push(write(resource));
        }
        let mut bytes = Vec::new();
        for response in by_type.values() {
            response.encode_length_delimited(&mut bytes).map_err(io::Error::other)?;
        }
        let temporary = self.path.with_extension("new");
        std::fs::write(&temporary, bytes)?;
        std::fs::rename(temporary, &self.path)
    }
}

fn read(rtype: ResourceType, resource: wire::Resource) -> Option<SavedResource> {
    Some(SavedResource {
        rtype,
        name: resource.name.into(),
        version: resource.version.into(),
        asked: resource.aliases.into_iter().map(Name::from).collect(),
        // A part of the file would keep all of it.
        body: Bytes::copy_from_slice(&resource.resource?.value),
    })
}

fn write(resource: &SavedResource) -> wire::Resource {
    wire::Resource {
        name: (*resource.name).to_owned(),
        version: (*resource.version).to_owned(),
        aliases: resource.asked.iter().map(|name| (**name).to_owned()).collect(),
        resource: Some(Any {
            type_url: resource.rtype.type_url().to_owned(),
            value: resource.body.clone(),
        }),
        ..wire::Resource::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(name: &str) -> SavedResource {
        SavedResource {
            rtype: ResourceType::Listener,
            name: name.into(),
            version: "1".into(),
            asked: vec!["10.0.0.1:80".into()],
            body: Bytes::from_static(b"x"),
        }
    }

    #[test]
    fn what_is_kept_comes_back() {
        let directory = tempfile::tempdir().expect("a directory");
        let state = SavedState::open(&directory.path().join("deep/er")).expect("made");
        assert_eq!(state.load().expect("no file is no error"), []);
        let cluster = SavedResource { rtype: ResourceType::Cluster, ..resource("c") };
        let all = vec![cluster, resource("a"), resource("b")];
        state.save(&all).expect("written");
        assert_eq!(state.load().expect("ours"), all);
        std::fs::write(&state.path, b"\xff\xff\xff").expect("ours");
        assert_eq!(state.load().expect_err("damaged").kind(), io::ErrorKind::InvalidData);
    }
}
