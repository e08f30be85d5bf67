//! What is done with a connection or request: pure functions of values (design D7).
//!
//! In the order in which traffic asks: [`destination`] (which listener) → [`filter_chain`] →
//! [`route`] → [`retry`]. The picking of endpoints is in [`balance`].

pub mod balance;
pub mod destination;
pub mod filter_chain;
pub mod retry;
pub mod route;
