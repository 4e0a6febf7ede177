//! Mutates the seeds of a target for some seconds, without coverage and without nightly:
//! `cargo run --example drive -- TARGET SECONDS [SEED]`. An input that breaks the law is kept in `artifacts/`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use icecore_fuzz::{LAWS, Law};

/// What a mutated input is cut to.
const BYTES_MAX: usize = 16 * 1024;
const FINDINGS_MAX: usize = 10;
const INTERESTING: [u8; 10] = [0, 1, 2, 3, 0x7f, 0x80, 0xfe, 0xff, b'"', b'\n'];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [target, seconds, rest @ ..] = arguments.as_slice() else {
        return Err("usage: drive TARGET SECONDS [SEED]".into());
    };
    let (_, law) = LAWS.iter().find(|(name, _)| name == target).ok_or("no such target")?;
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut corpus = Vec::new();
    for entry in std::fs::read_dir(root.join("seeds").join(target))? {
        corpus.push(std::fs::read(entry?.path())?);
    }
    corpus.sort();
    let seed = rest.first().map_or(Ok(1), |seed| seed.parse())?;
    let mut mutator = Mutator { state: seed, tokens: tokens(&corpus), corpus };
    let (start, time) = (Instant::now(), Duration::from_secs(seconds.parse()?));
    let (mut runs, mut findings) = (0_u64, 0);
    // The law panics; its message is enough.
    while start.elapsed() < time && findings < FINDINGS_MAX {
        let input = mutator.next_input();
        if breaks(*law, &input) {
            findings += 1;
            keep(&root.join("artifacts").join(target), findings, &input)?;
        }
        runs += 1;
    }
    println!("{target}: {runs} inputs in {:.0} s, {findings} findings", start.elapsed().as_secs_f64());
    if findings == 0 { Ok(()) } else { Err("the law was broken".into()) }
}

fn breaks(law: Law, input: &[u8]) -> bool {
    std::panic::catch_unwind(|| law(input)).is_err()
}

fn keep(directory: &Path, number: usize, input: &[u8]) -> std::io::Result<()> {
    std::fs::create_dir_all(directory)?;
    let path = directory.join(format!("drive-{number}"));
    println!("kept {}: {:?}", path.display(), String::from_utf8_lossy(input));
    std::fs::write(path, input)
}

/// Words and signs of the seeds, as pieces to insert.
fn tokens(corpus: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut tokens = Vec::new();
    for bytes in corpus {
        for word in
            bytes.chunk_by(|left, right| left.is_ascii_alphanumeric() == right.is_ascii_alphanumeric())
        {
            tokens.push(word.to_vec());
        }
    }
    tokens.sort();
    tokens.dedup();
    tokens
}

struct Mutator {
    state: u64,
    corpus: Vec<Vec<u8>>,
    tokens: Vec<Vec<u8>>,
}

impl Mutator {
    /// SplitMix64, below `bound`.
    fn below(&mut self, bound: usize) -> usize {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = self.state;
        number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((number ^ (number >> 31)) % bound.max(1) as u64).unwrap_or(0)
    }

    fn next_input(&mut self) -> Vec<u8> {
        let index = self.below(self.corpus.len());
        let mut bytes = self.corpus[index].clone();
        for _ in 0..=self.below(8) {
            self.mutate(&mut bytes);
        }
        bytes.truncate(BYTES_MAX);
        bytes
    }

    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        let at = self.below(bytes.len() + 1);
        let end = at + self.below((bytes.len() - at).min(32) + 1);
        match self.below(8) {
            0 => {
                let bit = 1 << self.below(8);
                bytes.get_mut(at).into_iter().for_each(|byte| *byte ^= bit);
            }
            1 => {
                let value = INTERESTING[self.below(INTERESTING.len())];
                bytes.get_mut(at).into_iter().for_each(|byte| *byte = value);
            }
            2 => drop(bytes.drain(at..end)),
            3 => {
                let piece = bytes[at..end].to_vec();
                let to = self.below(bytes.len() + 1);
                bytes.splice(to..to, piece);
            }
            4 => {
                let other = self.below(self.corpus.len());
                let from = self.below(self.corpus[other].len());
                bytes.truncate(at);
                bytes.extend_from_slice(&self.corpus[other][from..]);
            }
            5 => {
                let piece: Vec<u8> = (0..self.below(8)).map(|_| self.below(256) as u8).collect();
                bytes.splice(at..at, piece);
            }
            _ => {
                let index = self.below(self.tokens.len());
                let token = self.tokens[index].clone();
                bytes.splice(at..end, token);
            }
        }
    }
}
