//! Invented hosts.
