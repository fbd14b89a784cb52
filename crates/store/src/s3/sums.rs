//! Checksums of objects and parts, made here and sent as plain headers: the SDK's own may come as trailers, which many
//! compatible stores do not take.

use crate::{Checksum, Error, Kind, Result};
use aws_smithy_checksums::ChecksumAlgorithm;
use aws_smithy_types::base64;
use bytes::Bytes;

/// Larger bodies are summed outside the async threads.
const INLINE_BYTES_MAX: usize = 256 << 10;

/// A checksum, base64, with its algorithm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) algorithm: Checksum,
    pub(super) value: String,
}

impl Sum {
    /// Of a body; `None` when the settings ask for none.
    pub(super) async fn of(algorithm: Checksum, bytes: &Bytes) -> Result<Option<Sum>> {
        let make = match algorithm {
            Checksum::None => return Ok(None),
            Checksum::Crc32 => ChecksumAlgorithm::Crc32,
            Checksum::Crc32c => ChecksumAlgorithm::Crc32c,
            Checksum::Crc64nvme => ChecksumAlgorithm::Crc64Nvme,
            Checksum::Sha256 => ChecksumAlgorithm::Sha256,
        };
        let sum = move |bytes: &[u8]| {
            let mut sum = make.into_impl();
            sum.update(bytes);
            base64::encode(sum.finalize())
        };
        let value = if bytes.len() <= INLINE_BYTES_MAX {
            sum(bytes)
        } else {
            let bytes = bytes.clone();
            let summed = tokio::task::spawn_blocking(move || sum(&bytes)).await;
            summed.map_err(|error| Error::new(Kind::Fatal, "a checksum was not made").source(error))?
        };
        Ok(Some(Sum { algorithm, value }))
    }

    /// As a part's id keeps it, `crc32c:…`: who completes an upload may have other settings than who began it.
    pub(super) fn to_text(&self) -> String {
        format!("{}:{}", name(self.algorithm), self.value)
    }

    pub(super) fn from_text(text: &str) -> Option<Sum> {
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

/// Sets a checksum on a request or part, whichever builder it is.
macro_rules! with_sum {
    ($builder:expr, $sum:expr) => {
        match $sum {
            None => $builder,
            Some(sum) => match sum.algorithm {
                crate::Checksum::None => $builder,
                crate::Checksum::Crc32 => $builder.checksum_crc32(sum.value.as_str()),
                crate::Checksum::Crc32c => $builder.checksum_crc32_c(sum.value.as_str()),
                crate::Checksum::Crc64nvme => $builder.checksum_crc64_nvme(sum.value.as_str()),
                crate::Checksum::Sha256 => $builder.checksum_sha256(sum.value.as_str()),
            },
        }
    };
}
pub(super) use with_sum;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn checksums_are_those_that_s3_knows() {
        // Check values of the algorithms' catalogue entries for "123456789".
        let known = [(Checksum::Crc32, "y/Q5Jg=="), (Checksum::Crc32c, "4waSgw=="), (Checksum::Crc64nvme, "rosUhgp5mIg=")];
        let known = known.into_iter().chain([(Checksum::Sha256, "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU=")]);
        for (algorithm, expected) in known {
            let sum = Sum::of(algorithm, &Bytes::from_static(b"123456789")).await.unwrap().unwrap();
            assert_eq!(Sum::from_text(&sum.to_text()), Some(sum.clone()));
            assert_eq!(sum.value, expected, "{algorithm:?}");
            let large = Bytes::from(vec![7; INLINE_BYTES_MAX + 1]);
            assert!(Sum::of(algorithm, &large).await.unwrap().is_some());
        }
        assert_eq!(Sum::of(Checksum::None, &Bytes::new()).await.unwrap(), None);
        assert_eq!(Sum::from_text("md5:x"), None);
    }
}
