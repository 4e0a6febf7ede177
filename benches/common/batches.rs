//! Text cut into bodies of the size that clients are told to send.

/// Lines of one body.
pub(crate) const BATCH_LINES: usize = 5_000;

/// Bodies of so many lines; the last may have fewer.
pub(crate) fn batches(lines: &str) -> Vec<&str> {
    let mut bodies = Vec::new();
    let mut rest = lines;
    while !rest.is_empty() {
        let end = rest.match_indices('\n').nth(BATCH_LINES - 1).map_or(rest.len(), |(at, _)| at + 1);
        let (body, after) = rest.split_at(end);
        bodies.push(body);
        rest = after;
    }
    bodies
}
