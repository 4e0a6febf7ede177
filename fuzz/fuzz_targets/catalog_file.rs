//! Law of catalog files: see `icecore_fuzz::files`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| icecore_fuzz::files::catalog(bytes));
