//! What an object is made of when nobody wants to copy it together.

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

/// Bytes that lie in several places and follow one another. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Pieces(Vec<Bytes>);

impl Pieces {
    /// Bytes of all of them.
    pub fn len(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    /// There is not a single byte.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Bytes::is_empty)
    }

    /// One after the other.
    pub fn iter(&self) -> impl Iterator<Item = &Bytes> {
        self.0.iter()
    }

    /// All in one place: a copy, unless there is only one.
    pub fn joined(&self) -> Bytes {
        if let [only] = &self.0[..] {
            return only.clone();
        }
        let mut whole = BytesMut::with_capacity(self.len());
        for piece in &self.0 {
            whole.extend_from_slice(piece);
        }
        whole.freeze()
    }
}

impl From<Bytes> for Pieces {
    fn from(bytes: Bytes) -> Pieces {
        Pieces(vec![bytes])
    }
}

impl From<Vec<Bytes>> for Pieces {
    fn from(pieces: Vec<Bytes>) -> Pieces {
        Pieces(pieces)
    }
}

/// Pieces on their way to the store.
pub(crate) struct Sending {
    pieces: std::vec::IntoIter<Bytes>,
    left: u64,
}

impl From<Pieces> for Sending {
    fn from(pieces: Pieces) -> Sending {
        Sending { left: pieces.len() as u64, pieces: pieces.0.into_iter() }
    }
}

impl Body for Sending {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = self.pieces.find(|piece| !piece.is_empty());
        self.left -= next.as_ref().map_or(0, Bytes::len) as u64;
        Poll::Ready(next.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    #[test]
    fn pieces_are_sent_in_order_none_of_them_empty_and_their_length_is_known() {
        let pieces = Pieces::from(vec![Bytes::new(), Bytes::from_static(b"ab"), Bytes::new(), Bytes::from_static(b"c")]);
        assert_eq!((pieces.len(), pieces.is_empty(), &pieces.joined()[..]), (3, false, &b"abc"[..]));
        let mut sending = Sending::from(pieces);
        let mut seen = Vec::new();
        while !sending.is_end_stream() {
            let left = sending.size_hint().exact();
            let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut sending).poll_frame(&mut Context::from_waker(Waker::noop())) else { break };
            seen.push((left, frame.into_data().unwrap()));
        }
        assert_eq!(seen, [(Some(3), Bytes::from_static(b"ab")), (Some(1), Bytes::from_static(b"c"))]);
        assert!(Sending::from(Pieces::default()).is_end_stream());
    }
}
