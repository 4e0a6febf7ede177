//! Law of imported records: see `icecore_fuzz::records`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| icecore_fuzz::records::check(bytes));
