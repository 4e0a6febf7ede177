//! What a series is called: its measurement and its sorted tags, and the one canonical byte form of both.

use std::fmt;

use crate::{Error, Result};

/// Name of a series: measurement plus tags sorted by key, each key once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesKey {
    measurement: Box<str>,
    tags: Vec<(Box<str>, Box<str>)>,
}

impl SeriesKey {
    /// Makes a key; sorts the tags.
    ///
    /// # Errors
    /// `InvalidInput` when the measurement, a tag key or a tag value is empty, a tag key stands twice, a part is
    /// longer than 65,535 bytes, or a tag key is reserved (`time`, `__name__`).
    pub fn new<K, V>(measurement: &str, tags: impl IntoIterator<Item = (K, V)>) -> Result<Self>
    where
        K: Into<Box<str>>,
        V: Into<Box<str>>,
    {
        let mut tags: Vec<(Box<str>, Box<str>)> =
            tags.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        tags.sort_unstable();
        if measurement.is_empty() {
            return Err(Error::invalid("empty measurement name"));
        }
        let parts = tags.iter().flat_map(|(key, value)| [&**key, &**value]).chain([measurement]);
        if parts.into_iter().any(|part| part.len() > usize::from(u16::MAX)) {
            return Err(Error::invalid("a measurement, tag key or tag value is longer than 65535 bytes"));
        }
        for (index, (key, value)) in tags.iter().enumerate() {
            if key.is_empty() || value.is_empty() {
                return Err(Error::invalid(format!("empty tag key or value near `{key}`")));
            }
            if &**key == "time" || &**key == "__name__" {
                return Err(Error::invalid(format!("`{key}` cannot be a tag key")));
            }
            if tags.get(index + 1).is_some_and(|(next, _)| next == key) {
                return Err(Error::invalid(format!("tag key `{key}` stands twice")));
            }
        }
        Ok(Self { measurement: measurement.into(), tags })
    }

    /// A key of parts that come from a key that was made before: sorted, and not checked again.
    pub(crate) fn from_sorted<'a>(measurement: &str, tags: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let tags: Vec<(Box<str>, Box<str>)> = tags.map(|(key, value)| (key.into(), value.into())).collect();
        debug_assert!(tags.is_sorted_by(|(one, _), (next, _)| one < next));
        Self { measurement: measurement.into(), tags }
    }

    /// The measurement.
    pub fn measurement(&self) -> &str {
        &self.measurement
    }

    /// The tags, sorted by key.
    pub fn tags(&self) -> &[(Box<str>, Box<str>)] {
        &self.tags
    }

    /// The value of a tag; `None` when the series does not have it.
    pub fn tag(&self, key: &str) -> Option<&str> {
        let index = self.tags.binary_search_by(|(other, _)| (**other).cmp(key)).ok()?;
        self.tags.get(index).map(|(_, value)| &**value)
    }

    /// Appends the canonical form: for the measurement and then each tag key and value a little-endian u16 length
    /// and the bytes. Equal keys have equal bytes and different keys different ones.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let tags = self.tags.iter().flat_map(|(key, value)| [&**key, &**value]);
        for part in std::iter::once(&*self.measurement).chain(tags) {
            // The constructor bounds every part, so the length fits.
            let len = u16::try_from(part.len()).unwrap_or(u16::MAX);
            out.extend_from_slice(&len.to_le_bytes());
            out.extend_from_slice(part.as_bytes());
        }
    }

    /// Reads the canonical form.
    ///
    /// # Errors
    /// `Corruption` when the bytes are not a canonical key.
    pub fn decode(mut bytes: &[u8]) -> Result<Self> {
        let mut parts = Vec::new();
        while let Some((len, rest)) = bytes.split_first_chunk::<2>() {
            let Some((part, rest)) = rest.split_at_checked(usize::from(u16::from_le_bytes(*len))) else {
                return Err(Error::corruption("series key is cut short"));
            };
            parts.push(std::str::from_utf8(part).map_err(|_| Error::corruption("series key is not UTF-8"))?);
            bytes = rest;
        }
        let Some((measurement, tags)) = parts.split_first().filter(|(_, tags)| tags.len() % 2 == 0) else {
            return Err(Error::corruption("series key has a tag key without a value"));
        };
        if !bytes.is_empty() {
            return Err(Error::corruption("series key has a byte too many"));
        }
        let pairs = tags.chunks_exact(2).filter_map(|pair| Some((*pair.first()?, *pair.last()?)));
        Self::new(measurement, pairs).map_err(|error| Error::corruption(error).context("series key"))
    }
}

impl fmt::Display for SeriesKey {
    /// `measurement{key="value",...}`, for messages.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}{{", self.measurement)?;
        for (index, (key, value)) in self.tags.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(out, "{comma}{key}={value:?}")?;
        }
        out.write_str("}")
    }
}
