//! An answer as frames, which a client reads one after the other: the length as a varint, the CRC-32C of the message as four
//! bytes (big-endian), and the message, `prometheus.ChunkedReadResponse`: `chunked_series` = 1 {`labels` = 1, `chunks` = 2
//! {`min_time_ms` = 1, `max_time_ms` = 2, `type` = 3, `data` = 4}}, `query_index` = 2.
//!
//! A frame has chunks of one series; a long series has several frames, each with its labels.

use icecore_query::Result;
use icecore_query::promql::SeriesSamples;

use super::samples::by_ms;
use super::xor;
use crate::ingest::protobuf::{push_bytes, push_head, push_number, push_varint};
use crate::ingest::remote::labels::push_label;

/// Bytes after which a frame is full, as in Prometheus; the last chunk goes beyond them, and labels may.
pub(super) const FRAME_BYTES: usize = 1 << 20;
/// Samples of a chunk, as in Prometheus.
const CHUNK_SAMPLES: usize = 120;
const SERIES: u32 = 1;
const QUERY_INDEX: u32 = 2;
const CHUNKS: u32 = 2;
/// `Chunk.Encoding.XOR`.
const XOR: u64 = 1;

/// Hands over the frames of a series as they are made.
pub(super) fn each_frame(
    query_idx: usize,
    series: &SeriesSamples,
    mut sink: impl FnMut(Vec<u8>) -> Result<()>,
) -> Result<()> {
    let mut labels = Vec::new();
    series.labels.iter().for_each(|(name, value)| push_label(&mut labels, name, value));
    let mut message = labels.clone();
    let mut samples = by_ms(series.ts_ns.iter().copied().zip(series.values.iter().copied()));
    let mut chunk = Vec::with_capacity(CHUNK_SAMPLES);
    loop {
        chunk.clear();
        chunk.extend(samples.by_ref().take(CHUNK_SAMPLES));
        let is_last = chunk.len() < CHUNK_SAMPLES;
        push_chunk(&mut message, &chunk);
        if labels.len() < message.len() && (is_last || FRAME_BYTES <= message.len()) {
            sink(frame(query_idx, &message))?;
            message.clone_from(&labels);
        }
        if is_last {
            return Ok(());
        }
    }
}

fn push_chunk(message: &mut Vec<u8>, samples: &[(i64, f64)]) {
    let (Some((first_ms, _)), Some((last_ms, _))) = (samples.first(), samples.last()) else { return };
    let mut chunk = Vec::new();
    push_number(&mut chunk, 1, first_ms.cast_unsigned());
    push_number(&mut chunk, 2, last_ms.cast_unsigned());
    push_number(&mut chunk, 3, XOR);
    push_bytes(&mut chunk, 4, &xor::encode(samples));
    push_bytes(message, CHUNKS, &chunk);
}

fn frame(query_idx: usize, series: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(series.len() + 16);
    push_head(&mut message, SERIES, series.len());
    message.extend_from_slice(series);
    if 0 < query_idx {
        push_number(&mut message, QUERY_INDEX, query_idx as u64);
    }
    let mut frame = Vec::with_capacity(message.len() + 9);
    push_varint(&mut frame, message.len() as u64);
    frame.extend_from_slice(&crc32c::crc32c(&message).to_be_bytes());
    frame.extend_from_slice(&message);
    frame
}
