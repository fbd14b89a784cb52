//! What an object is made of when nobody wants to copy it together.

use aws_smithy_types::base64;
use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

/// Bytes that are made text at a time: a multiple of three, so that the texts can follow one another.
const ENCODED_AT_ONCE: usize = 48 << 10;

/// Bytes that lie in several places and follow one another. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Pieces(Vec<Piece>);

#[derive(Clone, Debug)]
enum Piece {
    Plain(Bytes),
    /// Goes out in base64, which is made when it is sent and never lies in memory whole.
    Base64(Bytes),
}

impl Piece {
    fn len(&self) -> usize {
        match self {
            Piece::Plain(bytes) => bytes.len(),
            Piece::Base64(bytes) => bytes.len().div_ceil(3) * 4,
        }
    }
}

impl Pieces {
    /// Bytes of all of them.
    pub fn len(&self) -> usize {
        self.0.iter().map(Piece::len).sum()
    }

    /// There is not a single byte.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|piece| piece.len() == 0)
    }

    /// Adds bytes at the end.
    pub fn push(&mut self, bytes: impl Into<Bytes>) {
        self.0.push(Piece::Plain(bytes.into()));
    }

    /// Adds bytes at the end that go out as text: base64 of RFC 4648, with padding.
    pub fn push_base64(&mut self, bytes: Bytes) {
        self.0.push(Piece::Base64(bytes));
    }

    /// One after the other, none of them empty.
    pub fn iter(&self) -> impl Iterator<Item = Bytes> + use<> {
        Chunks { pieces: self.0.clone().into_iter(), encoding: Bytes::new() }
    }

    /// All in one place: a copy, unless there is only one.
    pub fn joined(&self) -> Bytes {
        if let [Piece::Plain(only)] = &self.0[..] {
            return only.clone();
        }
        let mut whole = BytesMut::with_capacity(self.len());
        self.iter().for_each(|piece| whole.extend_from_slice(&piece));
        whole.freeze()
    }
}

/// What goes out, in order.
struct Chunks {
    pieces: std::vec::IntoIter<Piece>,
    /// Of the piece that is being made text: what is left.
    encoding: Bytes,
}

impl Iterator for Chunks {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        loop {
            if !self.encoding.is_empty() {
                let next = self.encoding.split_to(self.encoding.len().min(ENCODED_AT_ONCE));
                return Some(base64::encode(next).into());
            }
            match self.pieces.next()? {
                Piece::Plain(bytes) if bytes.is_empty() => {}
                Piece::Plain(bytes) => return Some(bytes),
                Piece::Base64(bytes) => self.encoding = bytes,
            }
        }
    }
}

impl From<Bytes> for Pieces {
    fn from(bytes: Bytes) -> Pieces {
        Pieces(vec![Piece::Plain(bytes)])
    }
}

impl From<Vec<Bytes>> for Pieces {
    fn from(pieces: Vec<Bytes>) -> Pieces {
        Pieces(pieces.into_iter().map(Piece::Plain).collect())
    }
}

/// Pieces on their way to the store.
pub(crate) struct Sending {
    chunks: Chunks,
    left: u64,
}

impl From<Pieces> for Sending {
    fn from(pieces: Pieces) -> Sending {
        Sending { left: pieces.len() as u64, chunks: Chunks { pieces: pieces.0.into_iter(), encoding: Bytes::new() } }
    }
}

impl Body for Sending {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = self.chunks.next();
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

    #[test]
    fn pieces_in_base64_go_out_as_one_text_each_however_long_they_are() {
        for length in [0, 1, 2, 3, ENCODED_AT_ONCE - 1, ENCODED_AT_ONCE, ENCODED_AT_ONCE + 1, 3 * ENCODED_AT_ONCE + 2] {
            let bytes: Bytes = (0..length).map(|n| u8::try_from(n % 251).unwrap()).collect();
            let mut pieces = Pieces::from(Bytes::from_static(b"["));
            pieces.push_base64(bytes.clone());
            pieces.push("]");
            let text = String::from_utf8(pieces.joined().to_vec()).unwrap();
            assert_eq!(text.len(), pieces.len(), "{length}");
            assert_eq!(text, format!("[{}]", base64::encode(&bytes)), "{length}");
            assert!(pieces.iter().all(|piece| !piece.is_empty() && piece.len() <= ENCODED_AT_ONCE / 3 * 4));
        }
    }
}
