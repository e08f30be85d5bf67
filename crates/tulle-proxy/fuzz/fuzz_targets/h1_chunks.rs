#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tulle_fuzz::check_chunks(data));
