//! Law of line protocol: see `icecore_fuzz::line`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| icecore_fuzz::line::check(bytes));
