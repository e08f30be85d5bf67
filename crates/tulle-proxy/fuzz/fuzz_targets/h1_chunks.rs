//! Chunked bodies: what is checked is in `tulle_fuzz::check_chunks`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tulle_fuzz::check_chunks(data));
