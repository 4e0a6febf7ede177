//! Law of remote write and OTLP: see `icecore_fuzz::senders`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| icecore_fuzz::senders::check(bytes));
