//! Paths: what is checked is in `tulle_fuzz::names::check_path`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tulle_fuzz::names::check_path(data));
