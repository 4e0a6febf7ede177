//! Law of evaluation: see `icecore_fuzz::eval`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| icecore_fuzz::eval::check(bytes));
