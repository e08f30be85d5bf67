//! Authorities: what is checked is in `tulle_fuzz::names::check_authority`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tulle_fuzz::names::check_authority(data));
