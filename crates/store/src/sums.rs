//! Checksums of objects and parts, made here once per body and sent as plain headers: the SDK's own may come as trailers, which
//! many compatible stores do not take.

use crate::{Checksum, Error, Kind, Pieces, Result};
use aws_smithy_checksums::ChecksumAlgorithm;
use aws_smithy_types::base64;
use bytes::Bytes;

/// Larger bodies are summed outside the async threads.
const INLINE_BYTES_MAX: usize = 256 << 10;

/// What goes up with a body.
#[derive(Clone, Debug)]
pub(crate) struct Sums {
    /// SHA-256, which is signed.
    pub(crate) sha256: [u8; 32],
    /// What the settings ask for besides.
    pub(crate) checksum: Option<Sum>,
}

impl Sums {
    /// Of a body, of which the caller may know the SHA-256.
    pub(crate) async fn of(algorithm: Checksum, pieces: &Pieces, known: Option<[u8; 32]>) -> Result<Sums> {
        if pieces.len() <= INLINE_BYTES_MAX {
            return Ok(Sums::now(algorithm, pieces, known));
        }
        let pieces = pieces.clone();
        let summed = tokio::task::spawn_blocking(move || Sums::now(algorithm, &pieces, known)).await;
        summed.map_err(|error| Error::new(Kind::Fatal, "a checksum was not made").source(error))
    }

    fn now(algorithm: Checksum, pieces: &Pieces, known: Option<[u8; 32]>) -> Sums {
        let sha256 = known.unwrap_or_else(|| array(&sum(ChecksumAlgorithm::Sha256, pieces)));
        let value = match algorithm {
            Checksum::None => return Sums { sha256, checksum: None },
            Checksum::Crc32 => sum(ChecksumAlgorithm::Crc32, pieces),
            Checksum::Crc32c => sum(ChecksumAlgorithm::Crc32c, pieces),
            Checksum::Crc64nvme => sum(ChecksumAlgorithm::Crc64Nvme, pieces),
            Checksum::Sha256 => Bytes::copy_from_slice(&sha256),
        };
        Sums { sha256, checksum: Some(Sum { algorithm, value: base64::encode(value) }) }
    }
}

/// SHA-256 of bytes.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut sum = ChecksumAlgorithm::Sha256.into_impl();
    sum.update(bytes);
    array(&sum.finalize())
}

fn array(hash: &[u8]) -> [u8; 32] {
    let mut array = [0; 32];
    array.copy_from_slice(hash);
    array
}

fn sum(algorithm: ChecksumAlgorithm, pieces: &Pieces) -> Bytes {
    let mut sum = algorithm.into_impl();
    for piece in pieces.iter() {
        sum.update(&piece);
    }
    sum.finalize()
}

/// A checksum, base64, with its algorithm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) algorithm: Checksum,
    pub(crate) value: String,
}

impl Sum {
    /// The header in which it goes up.
    pub(crate) fn header(&self) -> Option<&'static str> {
        match self.algorithm {
            Checksum::None => None,
            Checksum::Crc32 => Some("x-amz-checksum-crc32"),
            Checksum::Crc32c => Some("x-amz-checksum-crc32c"),
            Checksum::Crc64nvme => Some("x-amz-checksum-crc64nvme"),
            Checksum::Sha256 => Some("x-amz-checksum-sha256"),
        }
    }

    /// As a part's id keeps it, `crc32c:…`: who completes an upload may have other settings than who began it.
    pub(crate) fn to_text(&self) -> String {
        format!("{}:{}", name(self.algorithm), self.value)
    }

    pub(crate) fn from_text(text: &str) -> Option<Sum> {
        let (algorithm, value) = text.split_once(':')?;
        let known = [Checksum::Crc32, Checksum::Crc32c, Checksum::Crc64nvme, Checksum::Sha256];
        let algorithm = known.into_iter().find(|known| name(*known) == algorithm)?;
        Some(Sum { algorithm, value: value.to_owned() })
    }
}

fn name(algorithm: Checksum) -> &'static str {
    match algorithm {
        Checksum::None => "none",
        Checksum::Crc32 => "crc32",
        Checksum::Crc32c => "crc32c",
        Checksum::Crc64nvme => "crc64nvme",
        Checksum::Sha256 => "sha256",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn checksums_are_those_that_s3_knows() {
        // Check values of the algorithms' catalogue entries for "123456789".
        let known = [(Checksum::Crc32, "y/Q5Jg=="), (Checksum::Crc32c, "4waSgw=="), (Checksum::Crc64nvme, "rosUhgp5mIg=")];
        let known = known.into_iter().chain([(Checksum::Sha256, "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU=")]);
        for (algorithm, expected) in known {
            let sum =
                Sums::of(algorithm, &vec![Bytes::from_static(b"1234"), Bytes::from_static(b"56789")].into(), None).await.unwrap().checksum.unwrap();
            assert_eq!(Sum::from_text(&sum.to_text()), Some(sum.clone()));
            assert_eq!(sum.value, expected, "{algorithm:?}");
            let large = Pieces::from(Bytes::from(vec![7; INLINE_BYTES_MAX + 1]));
            let sums = Sums::of(algorithm, &large, None).await.unwrap();
            assert_eq!((sums.checksum.unwrap(), sums.sha256), (Sums::now(algorithm, &large, None).checksum.unwrap(), sha256(&large.joined())));
        }
        assert_eq!(Sums::of(Checksum::None, &Pieces::default(), None).await.unwrap().checksum, None);
        assert_eq!(Sums::of(Checksum::Sha256, &Pieces::default(), Some([7; 32])).await.unwrap().sha256, [7; 32], "what is known is not made again");
        assert_eq!(Sum::from_text("md5:x"), None);
    }
}
