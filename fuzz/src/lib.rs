//! The laws that the fuzz targets check, one function of bytes each. They are a library so that a stable compiler
//! can check them on the committed seeds too (`cargo test`), without libFuzzer.
//!
//! Read in this order: [`line`] (line protocol), [`records`] (CSV, JSON lines, access logs), [`languages`] (texts
//! of queries), [`eval`] (queries over a small database), [`senders`] (remote write and OTLP), [`files`] (bytes from disk).

pub mod eval;
pub mod files;
pub mod languages;
pub mod line;
pub mod records;
pub mod senders;

/// A law: panics when the bytes break it.
pub type Law = fn(&[u8]);

/// The targets by name, with their laws.
pub const LAWS: [(&str, Law); 11] = [
    ("line", line::check),
    ("records", records::check),
    ("promql_text", languages::promql),
    ("select_text", languages::select),
    ("query_eval", eval::check),
    ("senders", senders::check),
    ("wal_record", files::wal_record),
    ("uniques", files::uniques),
    ("segment_open", files::segment),
    ("manifest_open", files::manifest),
    ("catalog_file", files::catalog),
];

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn seeds_keep_their_laws() {
        for (target, law) in super::LAWS {
            let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
            let entries = std::fs::read_dir(&directory).expect("every target has seeds");
            let mut count = 0;
            for entry in entries {
                let bytes = std::fs::read(entry.expect("a directory entry").path()).expect("a seed");
                law(&bytes);
                // A seed cut or bent is the first thing a fuzzer would try.
                for len in [bytes.len() / 2, bytes.len().saturating_sub(1)] {
                    law(&bytes[..len]);
                }
                count += 1;
            }
            assert!(0 < count, "{target} has no seed");
        }
    }
}
