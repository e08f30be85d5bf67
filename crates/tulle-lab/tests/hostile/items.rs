//! Everything the design names.
