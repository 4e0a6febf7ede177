//! Law of sketches: see `icecore_fuzz::files`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| icecore_fuzz::files::uniques(bytes));
