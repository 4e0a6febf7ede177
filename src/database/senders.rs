//! What senders of the Prometheus world write: decode, store, count. Knows no HTTP and no compression.

use super::{Database, WriteReport};
use crate::ingest::Precision;
use crate::ingest::remote::labels::shown;
use crate::ingest::remote::{Beside, write1, write2};
use crate::metadata::MetricInfo;
use crate::point::Decoded;
use crate::{Error, Result};

/// Refused samples of a request whose reasons are kept.
const REASONS_MAX: usize = 100;

/// Which remote write a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemoteVersion {
    /// `prometheus.WriteRequest`.
    V1,
    /// `io.prometheus.write.v2.Request`.
    V2,
}

impl RemoteVersion {
    /// Counts the samples of a body, as far as it can be read.
    pub fn samples_of(self, body: &[u8]) -> usize {
        match self {
            Self::V1 => write1::samples_of(body),
            Self::V2 => write2::samples_of(body),
        }
    }
}

/// What became of a remote write.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RemoteReport {
    /// The samples; rows are samples, and lines are numbers of series, from 1. Native histograms count as refused.
    pub samples: WriteReport,
    /// Native histograms among the refused.
    pub histograms: usize,
    /// Exemplars, which are not kept.
    pub exemplars: usize,
}

impl Database {
    /// Writes the samples of a remote write, unpacked. Type, help and unit of metrics are remembered until the end of
    /// the program.
    ///
    /// # Errors
    /// `InvalidInput` for a body that is malformed: nothing was kept. As [`Database::write`]; of a large request of
    /// version 2 a part may be kept then.
    pub fn write_remote(&self, body: &[u8], version: RemoteVersion) -> Result<RemoteReport> {
        let mut samples = WriteReport::default();
        let beside = match version {
            RemoteVersion::V1 => {
                let (decoded, beside) = write1::decode(body, &self.line_limits).map_err(Error::invalid)?;
                self.write_portion(decoded, &mut samples)?;
                beside
            }
            RemoteVersion::V2 => {
                let mut store = |decoded: Decoded<'_>| self.write_portion(decoded, &mut samples);
                write2::decode(body, &self.line_limits, &mut store)?
            }
        };
        let Beside { histograms, exemplars, metadata } = beside;
        self.metadata.note(&metadata);
        Ok(RemoteReport { samples, histograms, exemplars })
    }

    /// What senders said of metrics, by name, at most `limit`; only of this metric when one is named.
    pub fn metric_metadata(&self, metric: Option<&str>, limit: usize) -> Vec<(String, MetricInfo)> {
        self.metadata.list(metric, limit)
    }

    fn write_portion(&self, decoded: Decoded<'_>, report: &mut WriteReport) -> Result<()> {
        let name_of = |key: &[u8]| Some(shown(key)).filter(|name| !name.is_empty());
        let written = self.write_named(decoded, Precision::Ms, &name_of)?;
        report.accepted += written.accepted;
        report.rejected_count += written.rejected_count;
        let room = REASONS_MAX.saturating_sub(report.rejected.len());
        report.rejected.extend(written.rejected.into_iter().take(room));
        Ok(())
    }
}
