//! Requests as the next hop reads them: what is checked is in `tulle_fuzz::two_hop::check_request`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tulle_fuzz::two_hop::check_request(data));
