//! The list of databases as it lies on disk: a head line with the layout and a checksum, then one line a database.
//!
//! ```text
//! icecore databases 1 <FNV-1a 64 of all that follows, 16 hex digits>
//! next <number>
//! <number> TAB <name>
//! ```
//! A number is never used twice. Names hold no control characters, so a line is a line.

#![warn(clippy::indexing_slicing)]

use std::collections::BTreeMap;

use crate::{Error, ErrorKind, Result};

const MAGIC: &str = "icecore databases ";
/// Version of the list that this build writes and reads.
const VERSION: u32 = 1;

/// Numbers and names of the databases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Catalog {
    names: BTreeMap<u32, String>,
    next_id: u32,
}

impl Default for Catalog {
    fn default() -> Self {
        Self { names: BTreeMap::new(), next_id: 1 }
    }
}

impl Catalog {
    /// Takes the next number for a name.
    pub(super) fn add(&mut self, name: &str) -> u32 {
        let id = self.next_id;
        self.names.insert(id, name.to_owned());
        self.next_id = id.saturating_add(1);
        id
    }

    /// Takes a name out; its number is never given again.
    pub(super) fn remove(&mut self, name: &str) -> Option<u32> {
        let id = self.iter().find(|(_, known)| *known == name).map(|(id, _)| id)?;
        self.names.remove(&id);
        Some(id)
    }

    /// Whether a number belonged to a database that is not there any more.
    pub(super) fn is_dropped(&self, id: u32) -> bool {
        id < self.next_id && !self.names.contains_key(&id)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    /// Numbers and names, by number.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &str)> {
        self.names.iter().map(|(id, name)| (*id, name.as_str()))
    }

    /// The bytes of the file.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut body = format!("next {}\n", self.next_id);
        for (id, name) in &self.names {
            body.push_str(&format!("{id}\t{name}\n"));
        }
        format!("{MAGIC}{VERSION} {:016x}\n{body}", fnv1a(body.as_bytes())).into_bytes()
    }

    /// Reads the bytes of the file.
    ///
    /// # Errors
    /// `Corruption` that names what is wrong; `Conflict` for a list of another version.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        let damaged =
            |what: &str| Error::new(ErrorKind::Corruption, format!("list of databases is damaged: {what}"));
        let text = std::str::from_utf8(bytes).map_err(|_| damaged("it is not UTF-8"))?;
        let (head, body) = text.split_once('\n').ok_or_else(|| damaged("it has no head line"))?;
        let (version, sum) = head
            .strip_prefix(MAGIC)
            .and_then(|rest| rest.split_once(' '))
            .ok_or_else(|| damaged("unknown head line"))?;
        if sum != format!("{:016x}", fnv1a(body.as_bytes())) {
            return Err(damaged("checksum does not match"));
        }
        let version: u32 = version.parse().map_err(|_| damaged("unknown head line"))?;
        if version != VERSION {
            let message = format!("list of databases of version {version}; this icecore reads {VERSION}");
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        let mut lines = body.lines();
        let next =
            lines.next().and_then(|line| line.strip_prefix("next ")).and_then(|next| next.parse().ok());
        let mut catalog =
            Self { names: BTreeMap::new(), next_id: next.ok_or_else(|| damaged("no next number"))? };
        for line in lines {
            let parts = line.split_once('\t').and_then(|(id, name)| Some((id.parse::<u32>().ok()?, name)));
            let (id, name) = parts.ok_or_else(|| damaged("a line is not a number and a name"))?;
            if id >= catalog.next_id || catalog.names.insert(id, name.to_owned()).is_some() {
                return Err(damaged("a number stands twice or was never given"));
            }
        }
        Ok(catalog)
    }
}

/// FNV-1a over 64 bits. Each step is a bijection, so a change of any single byte changes the sum.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Catalog {
        let mut catalog = Catalog::default();
        catalog.add("default");
        catalog.add("web shop");
        catalog
    }

    #[test]
    fn catalog_round_trips() {
        assert_eq!(Catalog::decode(&sample().encode()).unwrap(), sample());
        assert_eq!(Catalog::decode(&Catalog::default().encode()).unwrap(), Catalog::default());
    }

    #[test]
    fn catalog_number_of_a_dropped_database_is_not_given_again() {
        let mut catalog = sample();
        assert_eq!((catalog.remove("web shop"), catalog.remove("web shop")), (Some(2), None));
        assert_eq!([1, 2, 3].map(|id| catalog.is_dropped(id)), [false, true, false]);
        assert_eq!(Catalog::decode(&catalog.encode()).unwrap(), catalog);
        assert_eq!(catalog.add("web shop"), 3);
    }

    #[test]
    fn catalog_of_another_version_is_a_conflict() {
        let text = String::from_utf8(sample().encode()).unwrap();
        let newer = text.replacen("databases 1 ", "databases 2 ", 1);
        let error = Catalog::decode(newer.as_bytes()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    }

    #[test]
    fn catalog_cut_anywhere_is_corruption() {
        let bytes = sample().encode();
        for end in 0..bytes.len() {
            let error = Catalog::decode(bytes.get(..end).unwrap()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corruption, "cut at {end}");
        }
    }

    #[test]
    fn catalog_any_flipped_bit_is_corruption() {
        let bytes = sample().encode();
        for position in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            *damaged.get_mut(position / 8).unwrap() ^= 1 << (position % 8);
            assert!(Catalog::decode(&damaged).is_err(), "bit {position}");
        }
    }
}
