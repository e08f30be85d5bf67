//! Configuration: what people write becomes what proxies run. Pure: no file, socket or clock.
//!
//! One story, told in one direction:
//! [`tree`] (YAML and JSON with places) → [`reader`] (typed access that reports) → [`istio`]
//! (objects of a dialect, validated) → [`load`] (a set of files to a set of objects) → [`world`]
//! (all of them and the registered workloads, indexed) → [`translate`](mod@translate) (what one
//! [`client`] sees under a name). [`analyze`](mod@analyze) reads the same world for what is wrong
//! between objects.
//!
//! A bad object harms only itself; a kind, field or value that is not enforced is an error.

pub mod analyze;
pub mod client;
pub mod diagnostic;
pub mod explain;
pub mod istio;
pub mod load;
pub mod object;
pub mod path;
pub mod reader;
pub mod translate;
pub mod tree;
pub mod world;

pub use analyze::analyze;
pub use client::{Assembly, Bind, Client, Role};
pub use diagnostic::{Code, Diagnostic, Severity};
pub use explain::{Call, Explanation, explain};
pub use load::{File, Loaded, LoadedObject, Loader, Place, SourceMap, load};
pub use object::{Kind, Object, ObjectId, Spec};
pub use translate::{Names, Translation, names, translate};
pub use tree::{Position, Variable};
pub use world::{Changes, MeshSettings, Query, WorkloadInstance, World};
