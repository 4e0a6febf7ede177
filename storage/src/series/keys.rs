//! The bytes of series keys, in large pieces: a million allocations of a hundred bytes would cost a third more.

/// Keys are not cut: a piece is this long, or as long as the one key in it.
const PIECE_BYTES: usize = 1 << 20;

/// Keys that are only ever added.
#[derive(Debug, Default)]
pub(super) struct Keys {
    pieces: Vec<Vec<u8>>,
}

/// Where a key is.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeyPlace {
    piece: u32,
    start: u32,
    len: u32,
}

impl Keys {
    pub(super) fn push(&mut self, key: &[u8]) -> KeyPlace {
        let has_room = |piece: &&mut Vec<u8>| key.len() <= piece.capacity() - piece.len();
        if self.pieces.last_mut().as_ref().is_none_or(|piece| !has_room(piece)) {
            self.pieces.push(Vec::with_capacity(PIECE_BYTES.max(key.len())));
        }
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let piece = number(self.pieces.len() - 1);
        let mut start = 0;
        if let Some(piece) = self.pieces.last_mut() {
            start = number(piece.len());
            piece.extend_from_slice(key);
        }
        KeyPlace { piece, start, len: number(key.len()) }
    }

    /// The key at a place that [`Keys::push`] gave.
    pub(super) fn get(&self, place: KeyPlace) -> &[u8] {
        let KeyPlace { piece, start, len } = place;
        let range = start as usize..(start as usize).saturating_add(len as usize);
        self.pieces.get(piece as usize).and_then(|piece| piece.get(range)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn get_returns_what_was_pushed_across_pieces() {
        let mut keys = Keys::default();
        let sizes = [0, 1, PIECE_BYTES - 1, 1, 1, PIECE_BYTES + 5, 7, 400_000, 400_000, 400_000];
        let texts: Vec<Vec<u8>> = (0..).zip(sizes).map(|(fill, len)| vec![fill; len]).collect();
        let places: Vec<KeyPlace> = texts.iter().map(|text| keys.push(text)).collect();
        for (place, text) in places.iter().zip(&texts) {
            assert_eq!(keys.get(*place), text);
        }
        assert_eq!(keys.pieces.len(), 5);
    }
}
