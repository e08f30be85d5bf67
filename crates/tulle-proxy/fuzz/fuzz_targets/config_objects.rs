//! Objects of a user's file: what is checked is in `tulle_fuzz::configuration::check_objects`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tulle_fuzz::configuration::check_objects(data));
