//! Law of SELECT as text: see `icecore_fuzz::languages`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| icecore_fuzz::languages::select(bytes));
