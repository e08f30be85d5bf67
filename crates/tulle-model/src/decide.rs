//! What is done with a connection or request: pure functions of values (design D7).
//!
//! In the order in which traffic asks: [`destination`] (which listener) → [`detection`] (whose
//! bytes decide) → [`filter_chain`] → [`path`] (its one form) → [`caller`] (what is believed) →
//! [`route`] → [`rewrite`] → [`retry`].
//! [`request`] joins them; the picking of endpoints is in [`balance`].

pub mod balance;
pub mod caller;
pub mod destination;
pub mod detection;
pub mod filter_chain;
pub mod path;
pub mod request;
pub mod retry;
pub mod rewrite;
pub mod route;
