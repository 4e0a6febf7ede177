//! Bodies that are whole and large: their bytes stay in the account of their query until they are sent.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use hyper::body::{Bytes, Frame, SizeHint};

use crate::database::Query;

/// Bytes that are given to the connection at once, which buffers some of these, and the least that is held.
const SLICE_BYTES: usize = 64 << 10;

/// A body whose bytes are charged to its query.
pub(super) fn whole(bytes: Vec<u8>, query: Query) -> Body {
    if bytes.len() <= SLICE_BYTES {
        return Body::from(bytes);
    }
    Body::new(Held { rest: Bytes::from(bytes), _query: query })
}

struct Held {
    rest: Bytes,
    /// Holds the account.
    _query: Query,
}

impl hyper::body::Body for Held {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let slice = SLICE_BYTES.min(self.rest.len());
        let slice = self.rest.split_to(slice);
        Poll::Ready((!slice.is_empty()).then(|| Ok(Frame::data(slice))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}
