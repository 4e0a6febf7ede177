//! The list of databases as it lies on disk: a head line with the layout and a checksum, then one line a database.
//!
//! ```text
//! icecore databases 3 <FNV-1a 64 of all that follows and the byte 3, 16 hex digits>
//! next <number>
//! <number> TAB <name> TAB <durability> { TAB <measurement that keeps every event> }
//! ```
//! A number is never used twice. Names hold no control characters, so a line is a line. Version 1 had no durability;
//! its databases get that of new ones. Version 2 had no measurements. The sum of both was of what follows alone.

#![warn(clippy::indexing_slicing)]

use std::collections::BTreeMap;

use icecore_storage::options::Durability;

use crate::{Error, ErrorKind, Result};

const HEAD: &str = "icecore databases ";
/// Version of the list that this build writes.
const VERSION: u32 = 3;
const VERSION_WITHOUT_MEASUREMENTS: u32 = 2;
const VERSION_WITHOUT_DURABILITY: u32 = 1;

/// Numbers, names and durabilities of the databases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Catalog {
    entries: BTreeMap<u32, Entry>,
    next_id: u32,
}

/// One database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) durability: Durability,
    /// Measurements that keep every event.
    pub(super) keep_duplicates: Vec<String>,
}

impl Default for Catalog {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), next_id: 1 }
    }
}

impl Catalog {
    /// Takes the next number for a name.
    pub(super) fn add(&mut self, name: &str, durability: Durability, keep_duplicates: &[String]) -> u32 {
        let id = self.next_id;
        let keep_duplicates = keep_duplicates.to_vec();
        self.entries.insert(id, Entry { name: name.to_owned(), durability, keep_duplicates });
        self.next_id = id.saturating_add(1);
        id
    }

    /// Takes a name out; its number is never given again.
    pub(super) fn remove(&mut self, name: &str) -> Option<u32> {
        let id = self.iter().find(|(_, known)| known.name == name).map(|(id, _)| id)?;
        self.entries.remove(&id);
        Some(id)
    }

    /// Whether a number belonged to a database that is not there any more.
    pub(super) fn is_dropped(&self, id: u32) -> bool {
        id < self.next_id && !self.entries.contains_key(&id)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The databases by number.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Entry)> {
        self.entries.iter().map(|(id, entry)| (*id, entry))
    }

    /// The bytes of the file.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut body = format!("next {}\n", self.next_id);
        for (id, Entry { name, durability, keep_duplicates }) in &self.entries {
            body.push_str(&format!("{id}\t{name}\t{}", durability.name()));
            for measurement in keep_duplicates {
                body.push_str(&format!("\t{measurement}"));
            }
            body.push('\n');
        }
        format!("{HEAD}{VERSION} {:016x}\n{body}", sum_of(VERSION, &body)).into_bytes()
    }

    /// Reads the bytes of the file; databases of version 1 get `durability`.
    ///
    /// # Errors
    /// `Corruption` that names what is wrong; `Conflict` for a list of a newer version.
    pub(super) fn decode(bytes: &[u8], durability: Durability) -> Result<Self> {
        let text = std::str::from_utf8(bytes).map_err(|_| damaged("it is not UTF-8"))?;
        let (head, body) = text.split_once('\n').ok_or_else(|| damaged("it has no head line"))?;
        let (version, sum) = head
            .strip_prefix(HEAD)
            .and_then(|rest| rest.split_once(' '))
            .ok_or_else(|| damaged("unknown head line"))?;
        let version = version.parse::<u32>().map_err(|_| damaged("unknown head line"))?;
        if version <= VERSION && sum != format!("{:016x}", sum_of(version, body)) {
            return Err(damaged("checksum does not match"));
        }
        let preset = match version {
            VERSION | VERSION_WITHOUT_MEASUREMENTS => None,
            VERSION_WITHOUT_DURABILITY => Some(durability),
            other => {
                let message = format!("list of databases of version {other}; this icecore reads 1 to 3");
                return Err(Error::new(ErrorKind::Conflict, message));
            }
        };
        let mut lines = body.lines();
        let next =
            lines.next().and_then(|line| line.strip_prefix("next ")).and_then(|next| next.parse().ok());
        let mut catalog =
            Self { entries: BTreeMap::new(), next_id: next.ok_or_else(|| damaged("no next number"))? };
        for line in lines {
            let (id, entry) = decode_line(line, preset)
                .ok_or_else(|| damaged("a line is not a number, a name and a durability"))?;
            if id >= catalog.next_id || catalog.entries.insert(id, entry).is_some() {
                return Err(damaged("a number stands twice or was never given"));
            }
        }
        Ok(catalog)
    }
}

fn decode_line(line: &str, preset: Option<Durability>) -> Option<(u32, Entry)> {
    let (id, rest) = line.split_once('\t')?;
    let mut parts = rest.split('\t');
    let name = parts.next()?.to_owned();
    let durability = match preset {
        Some(durability) => durability,
        None => Durability::of_name(parts.next()?)?,
    };
    let keep_duplicates = parts.map(str::to_owned).collect();
    Some((id.parse().ok()?, Entry { name, durability, keep_duplicates }))
}

fn damaged(what: &str) -> Error {
    Error::new(ErrorKind::Corruption, format!("list of databases is damaged: {what}"))
}

/// The sum in the head line. One bit makes version 2 of version 3, so the sum tells them apart.
fn sum_of(version: u32, body: &str) -> u64 {
    match version {
        VERSION => fnv1a(&[body.as_bytes(), b"3"].concat()),
        _ => fnv1a(body.as_bytes()),
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
        catalog.add("default", Durability::Fsync, &[]);
        catalog.add("web shop", Durability::Memory, &["orders".to_owned(), "log in".to_owned()]);
        catalog
    }

    fn decode(bytes: &[u8]) -> Result<Catalog> {
        Catalog::decode(bytes, Durability::Interval)
    }

    /// Written by version 1 of the list.
    #[test]
    fn catalog_of_version_1_gets_the_durability_of_new_databases() {
        let text = "icecore databases 1 c26fbe25f962596d\nnext 3\n1\tdefault\n2\tweb shop\n";
        let catalog = decode(text.as_bytes()).unwrap();
        let found: Vec<_> = catalog.iter().map(|(id, entry)| (id, &*entry.name, entry.durability)).collect();
        assert_eq!(found, [(1, "default", Durability::Interval), (2, "web shop", Durability::Interval)]);
        assert_eq!(decode(&catalog.encode()).unwrap(), catalog);
    }

    /// Written by version 2 of the list.
    #[test]
    fn catalog_of_version_2_keeps_no_duplicates() {
        let text = "icecore databases 2 SUM\nnext 2\n1\tdefault\tmemory\n";
        let sum = format!("{:016x}", fnv1a(text.split_once('\n').unwrap().1.as_bytes()));
        let catalog = decode(text.replace("SUM", &sum).as_bytes()).unwrap();
        let entry = catalog.iter().next().unwrap().1;
        assert_eq!((entry.durability, entry.keep_duplicates.len()), (Durability::Memory, 0));
    }

    #[test]
    fn catalog_round_trips() {
        assert_eq!(decode(&sample().encode()).unwrap(), sample());
        assert_eq!(decode(&Catalog::default().encode()).unwrap(), Catalog::default());
    }

    #[test]
    fn catalog_number_of_a_dropped_database_is_not_given_again() {
        let mut catalog = sample();
        assert_eq!((catalog.remove("web shop"), catalog.remove("web shop")), (Some(2), None));
        assert_eq!([1, 2, 3].map(|id| catalog.is_dropped(id)), [false, true, false]);
        assert_eq!(decode(&catalog.encode()).unwrap(), catalog);
        assert_eq!(catalog.add("web shop", Durability::Fsync, &[]), 3);
    }

    #[test]
    fn catalog_of_another_version_is_a_conflict() {
        let text = String::from_utf8(sample().encode()).unwrap();
        let newer = text.replacen("databases 3 ", "databases 4 ", 1);
        let error = decode(newer.as_bytes()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    }

    #[test]
    fn catalog_cut_anywhere_is_corruption() {
        let bytes = sample().encode();
        for end in 0..bytes.len() {
            let error = decode(bytes.get(..end).unwrap()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corruption, "cut at {end}");
        }
    }

    #[test]
    fn catalog_any_flipped_bit_is_corruption() {
        let bytes = sample().encode();
        for position in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            *damaged.get_mut(position / 8).unwrap() ^= 1 << (position % 8);
            assert!(decode(&damaged).is_err(), "bit {position}");
        }
    }
}
