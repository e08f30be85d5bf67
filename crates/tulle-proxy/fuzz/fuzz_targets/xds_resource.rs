//! Resources off the wire: what is checked is in `tulle_fuzz::configuration::check_resource`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tulle_fuzz::configuration::check_resource(data));
