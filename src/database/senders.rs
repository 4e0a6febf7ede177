//! What senders of the Prometheus world write, remote write and OTLP: decode, store, count. Knows no HTTP and no compression.

use super::{Database, WriteReport};
use crate::ingest::Precision;
use crate::ingest::otlp;
use crate::ingest::remote::labels::shown;
use crate::ingest::remote::{Beside, Counts, write1, write2};
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
    /// Counts what is in a body, as far as it can be read.
    pub fn counts_of(self, body: &[u8]) -> Counts {
        match self {
            Self::V1 => write1::counts_of(body),
            Self::V2 => write2::counts_of(body),
        }
    }
}

/// What became of a remote write.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RemoteReport {
    /// The samples that are numbers; rows are samples, and lines are numbers of series, from 1.
    pub samples: WriteReport,
    /// The native histograms.
    pub histograms: WriteReport,
    /// Exemplars that were taken.
    pub exemplars: usize,
}

impl RemoteReport {
    /// Samples of both kinds.
    pub fn both(&self) -> WriteReport {
        let mut both = self.samples.clone();
        both.absorb(self.histograms.clone());
        both
    }
}

/// What became of OTLP metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OtlpReport {
    /// Samples kept; a point of a histogram is several.
    pub accepted: u64,
    /// Points of which something was refused.
    pub refused_points: usize,
    /// The first reasons, each once.
    pub reasons: Vec<String>,
}

impl Database {
    /// Writes the samples of a remote write, unpacked. Type, help and unit of metrics are remembered until the end of
    /// the program.
    ///
    /// # Errors
    /// `InvalidInput` for a body that is malformed: nothing was kept. As [`Database::write`]; of a large request of
    /// version 2, or with native histograms, a part may be kept then.
    pub fn write_remote(&self, body: &[u8], version: RemoteVersion) -> Result<RemoteReport> {
        let (mut samples, mut taken) = (WriteReport::default(), 0);
        let beside = match version {
            RemoteVersion::V1 => {
                let (decoded, beside) = write1::decode(body, &self.line_limits).map_err(Error::invalid)?;
                self.write_portion(decoded, &mut samples, &mut taken)?;
                beside
            }
            RemoteVersion::V2 => {
                let mut store = |decoded: Decoded<'_>| self.write_portion(decoded, &mut samples, &mut taken);
                write2::decode(body, &self.line_limits, &mut store)?
            }
        };
        let Beside { histograms: found, exemplars, metadata } = beside;
        self.metadata.note(&metadata);
        let mut histograms = WriteReport::default();
        if 0 < found + exemplars {
            let mut store = |decoded: Decoded<'_>| self.write_portion(decoded, &mut histograms, &mut taken);
            match version {
                RemoteVersion::V1 => write1::decode_beside(body, &self.line_limits, &mut store)?,
                RemoteVersion::V2 => write2::decode_beside(body, &self.line_limits, &mut store)?,
            }
        }
        Ok(RemoteReport { samples, histograms, exemplars: taken })
    }

    /// Writes an OTLP `ExportMetricsServiceRequest` in protobuf, named as Prometheus names it. Type, description and unit
    /// of metrics are remembered until the end of the program.
    ///
    /// # Errors
    /// `InvalidInput` for a body that is malformed, and as [`Database::write`]; of a large request a part may be kept
    /// then.
    pub fn write_otlp(&self, body: &[u8]) -> Result<OtlpReport> {
        let mut report = OtlpReport::default();
        let mut last_line = 0;
        let mut store = |mut decoded: Decoded<'_>| {
            self.keep_exemplars(&mut decoded);
            let written = self.write_named(decoded, Precision::Ns, &series_of)?;
            report.accepted += written.accepted;
            for rejected in &written.rejected {
                // A point may be several samples; `target_info` is none.
                report.refused_points += usize::from(rejected.line != last_line && rejected.line != 0);
                last_line = rejected.line;
                report.note(&rejected.reason);
            }
            Ok(())
        };
        let outcome = otlp::decode(body, &self.line_limits, &mut store)?;
        self.metadata.note(&outcome.metadata);
        report.refused_points += outcome.refused_points;
        outcome.reasons.iter().for_each(|reason| report.note(reason));
        Ok(report)
    }

    /// What senders said of metrics, by name, at most `limit`; only of this metric when one is named.
    pub fn metric_metadata(&self, metric: Option<&str>, limit: usize) -> Vec<(String, MetricInfo)> {
        self.metadata.list(metric, limit)
    }

    fn write_portion(
        &self,
        mut decoded: Decoded<'_>,
        report: &mut WriteReport,
        exemplars: &mut usize,
    ) -> Result<()> {
        *exemplars += self.keep_exemplars(&mut decoded);
        report.absorb(self.write_named(decoded, Precision::Ms, &series_of)?);
        Ok(())
    }
}

impl Database {
    /// Keeps the exemplars of a portion, of series that can be read. Hands back how many were taken.
    fn keep_exemplars(&self, decoded: &mut Decoded<'_>) -> usize {
        let mut taken = 0;
        let exemplars = std::mem::take(&mut decoded.exemplars);
        for of_series in exemplars.chunk_by(|one, next| one.key == next.key) {
            let Some(key) = of_series.first().map(|one| one.key) else { continue };
            if let Ok(series) = (decoded.batch.dialect.series_key)(key) {
                taken += self.exemplars.add(&series, of_series.iter().map(|one| &one.exemplar));
            }
        }
        taken
    }
}

impl WriteReport {
    /// Adds another one; of many reasons the first are kept.
    fn absorb(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.rejected_count += other.rejected_count;
        let room = REASONS_MAX.saturating_sub(self.rejected.len());
        self.rejected.extend(other.rejected.into_iter().take(room));
    }
}

impl OtlpReport {
    fn note(&mut self, reason: &str) {
        const REASONS_MAX: usize = 10;
        if self.reasons.len() < REASONS_MAX
            && !reason.is_empty()
            && !self.reasons.iter().any(|one| one == reason)
        {
            self.reasons.push(reason.to_owned());
        }
    }
}

fn series_of(key: &[u8]) -> Option<String> {
    Some(shown(key)).filter(|name| !name.is_empty())
}
