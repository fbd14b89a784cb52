//! Payloads come back: checked before the first byte, while they are read, and at the end.

use crate::{
    Error, Kind, Reason, Result, compress,
    places::{Place, shown},
    reference::{Compression, Hasher, PREFIX_SUM_BYTES, Reference},
    resources::Resources,
    work,
};
use bytes::{Bytes, BytesMut};
use kas3_store::{Info, Reading, Version};
use std::{io::Read, sync::Arc, time::Duration};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

/// A download that broke off is taken up where it broke off so often, if it brought nothing in between.
const RESUMES_MAX: u32 = 5;
/// Memory reserved on the store's word alone, before bytes have come.
const RESERVED_MAX: u64 = 8 << 20;
/// Pieces of a stream that wait for its reader.
const PIECES_WAITING: usize = 2;
/// Bytes between two of a stream's pieces are held until their sum is known; payloads without sums lie in a file meanwhile.
const SPOOL_ABOVE_BYTES: u64 = crate::reference::CHUNK_BYTES;

/// What a reference promises and the settings allow, for one download.
struct Bounds {
    /// Bytes of the object at most.
    object: u64,
    /// Bytes of the payload at most.
    payload: u64,
}

impl Bounds {
    fn of(resources: &Resources, reference: &Reference) -> Result<Bounds> {
        let settings = &resources.plan.settings;
        let most = settings.max_payload_bytes;
        if reference.sha256.is_none() && reference.etag.is_none() && settings.require_integrity {
            return Err(Error::refused(Reason::MissingChecksum, format!("the reference to {} has no checksum", shown(&reference.url())))
                .hint("set `require_integrity: false` if its sender is trusted"));
        }
        if let Some(size) = reference.size.filter(|size| *size > most) {
            return Err(too_large(reference, size, most));
        }
        Ok(Bounds { object: most, payload: reference.size.unwrap_or(most) })
    }
}

fn too_large(reference: &Reference, bytes: u64, most: u64) -> Error {
    Error::refused(
        Reason::ObjectTooLarge,
        format!("the payload {} has {bytes} bytes, more than `max_payload_bytes` ({most})", shown(&reference.url())),
    )
    .hint("raise `max_payload_bytes` if such payloads are meant to be read")
}

/// An object being read, taken up again where it breaks off.
struct Download {
    place: Place,
    path: String,
    reading: Reading,
    version: Version,
    at: u64,
    limit: u64,
    resumes: u32,
}

impl Download {
    async fn open(resources: &Resources, reference: &Reference, bounds: &Bounds) -> Result<Download> {
        let (place, path) = resources.places.of(reference)?;
        let opened = place.store.read(path, 0).await.map_err(|error| of_store(error, reference))?;
        let Some(reading) = opened else { return Err(gone(reference)) };
        check_info(&reading.info, reference, bounds, place.has_etags())?;
        let version = reading.info.version.clone();
        Ok(Download { place: place.clone(), path: path.to_owned(), reading, version, at: 0, limit: bounds.object, resumes: 0 })
    }

    fn bytes(&self) -> u64 {
        self.reading.info.bytes
    }

    async fn next(&mut self, reference: &Reference) -> Result<Option<Bytes>> {
        loop {
            let error = match self.reading.next().await {
                Ok(Some(piece)) => {
                    self.at += piece.len() as u64;
                    if self.at > self.limit {
                        return Err(too_large(reference, self.at, self.limit));
                    }
                    self.resumes = 0;
                    return Ok(Some(piece));
                }
                Ok(None) if self.at == self.bytes() => return Ok(None),
                Ok(None) => Error::new(Kind::Transient, format!("the answer with {} was cut short", shown(&reference.url()))),
                Err(error) => of_store(error, reference),
            };
            self.resumes += 1;
            if error.kind() != Kind::Transient || self.resumes > RESUMES_MAX {
                return Err(error);
            }
            tracing::debug!(key = reference.key, at = self.at, %error, "taking up a download again");
            tokio::time::sleep(Duration::from_millis(50 << self.resumes)).await;
            let opened = self.place.store.read_version(&self.path, self.at, &self.version).await.map_err(|error| of_store(error, reference))?;
            self.reading = opened.ok_or_else(|| gone(reference))?;
        }
    }
}

fn gone(reference: &Reference) -> Error {
    Error::refused(Reason::ObjectMissing, format!("the payload {} is gone", shown(&reference.url())))
        .hint("it was deleted after it was sent: look at lifecycle rules, at `ttl_seconds`, and at who deletes after consuming")
}

fn of_store(error: kas3_store::Error, reference: &Reference) -> Error {
    match error.kind() {
        kas3_store::Kind::Denied => {
            let hint = match &reference.encryption {
                Some(encryption) => format!("allow `s3:GetObject` there, and the use of its key (it was written with `{encryption}`)"),
                None => error.way_out().unwrap_or("allow `s3:GetObject` there").to_owned(),
            };
            Error::refused(Reason::ObjectForbidden, format!("the payload {} may not be read", shown(&reference.url()))).hint(hint).source(error)
        }
        // the bucket itself: no object of it can be had, now or later
        kas3_store::Kind::Missing => Error::from(error),
        _ => Error::from(error).doing(format_args!("cannot read the payload {}", shown(&reference.url()))),
    }
}

fn check_info(info: &Info, reference: &Reference, bounds: &Bounds, etags: bool) -> Result<()> {
    let url = shown(&reference.url());
    if info.bytes > bounds.object {
        return Err(too_large(reference, info.bytes, bounds.object));
    }
    if let Some(size) = reference.size.filter(|size| reference.compression == Compression::None && *size != info.bytes) {
        return Err(Error::refused(Reason::SizeMismatch, format!("the object {url} has {} bytes, its reference says {size}", info.bytes)));
    }
    let Some(expected) = reference.etag.as_deref().filter(|_| etags) else { return Ok(()) };
    let found = info.version.0.trim_matches('"');
    if found.is_empty() {
        return Err(Error::refused(Reason::MissingEtag, format!("the store gives no ETag for {url}, its reference has one")));
    }
    if found != expected.trim_matches('"') {
        return Err(Error::refused(
            Reason::EtagMismatch,
            format!("the object {url} is another one than was sent: its ETag is not that of the reference"),
        ));
    }
    Ok(())
}

/// Admits payloads to memory.
pub(crate) trait Admission: Send {
    /// Takes the room at once, or says that there is none.
    fn at_once(&mut self, bytes: u64) -> bool;
    /// Waits for the room.
    fn wait(&mut self, bytes: u64) -> impl Future<Output = ()> + Send;
    /// Waits for its turn to download; who has it never waits for room.
    fn turn(&mut self) -> impl Future<Output = Option<OwnedSemaphorePermit>> + Send;
}

/// Everybody is admitted.
pub(crate) struct Unlimited;

impl Admission for Unlimited {
    fn at_once(&mut self, _bytes: u64) -> bool {
        true
    }
    async fn wait(&mut self, _bytes: u64) {}
    async fn turn(&mut self) -> Option<OwnedSemaphorePermit> {
        None
    }
}

/// A payload read whole.
pub(crate) async fn whole(resources: &Resources, reference: &Reference, admission: &mut impl Admission) -> Result<Bytes> {
    let bounds = Bounds::of(resources, reference)?;
    // a reference to elsewhere is refused before anything waits for it
    resources.places.of(reference)?;
    if let Some(size) = reference.size {
        admission.wait(size).await;
    }
    let mut turn = admission.turn().await;
    let mut download = Download::open(resources, reference, &bounds).await?;
    if reference.size.is_none() {
        let bytes = reference.payload_bytes(download.bytes()).min(bounds.payload);
        if !admission.at_once(bytes) {
            // no connection and no turn is held while others are read
            drop((download, turn));
            admission.wait(bytes).await;
            turn = admission.turn().await;
            download = Download::open(resources, reference, &bounds).await?;
        }
    }
    let plain = reference.compression == Compression::None;
    let mut hasher = Hasher::new(reference.size);
    let mut object = BytesMut::new();
    let mut only = None;
    while let Some(piece) = download.next(reference).await? {
        if plain {
            hasher.update(&piece);
        }
        if piece.len() as u64 == download.bytes() {
            only = Some(piece);
            continue;
        }
        if object.is_empty() {
            object.reserve(usize::try_from(download.bytes().min(RESERVED_MAX.max(reference.size.unwrap_or(0)))).unwrap_or(0));
        }
        object.extend_from_slice(&piece);
    }
    drop(turn);
    let object = only.unwrap_or_else(|| object.freeze());
    if plain {
        check_end(reference, hasher)?;
        return Ok(object);
    }
    let (compression, limit, size) = (reference.compression, bounds.payload, reference.size);
    let work = move || -> Result<(Hasher, Vec<u8>)> {
        let payload = compress::inflate(compression, object, limit)?;
        let mut hasher = Hasher::new(size);
        hasher.update(&payload);
        Ok((hasher, payload))
    };
    let (hasher, payload) = work::on_bytes(download.at, work).await?;
    check_end(reference, hasher)?;
    Ok(payload.into())
}

fn check_end(reference: &Reference, hasher: Hasher) -> Result<()> {
    let url = || shown(&reference.url());
    let bytes = hasher.bytes();
    if let Some(size) = reference.size.filter(|size| *size != bytes) {
        return Err(Error::refused(Reason::SizeMismatch, format!("the payload {} has {bytes} bytes, its reference says {size}", url())));
    }
    let found = hasher.finish().0;
    if reference.sha256.is_some_and(|expected| expected != found) {
        return Err(Error::refused(Reason::Sha256Mismatch, format!("the payload {} is not what was sent: its SHA-256 is another one", url()))
            .hint("the object was changed after it was sent, or the reference is forged; it is not handed out"));
    }
    Ok(())
}

/// A payload as a stream. Every piece was verified together with all before it; an error ends the stream, and then what came
/// is a beginning of the payload and not the whole.
pub struct PayloadStream {
    pieces: mpsc::Receiver<Result<Bytes>>,
    size: Option<u64>,
}

impl PayloadStream {
    /// Bytes of the payload, when the reference says so.
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// The next piece; `None` at the end, which is the payload's only if no error came.
    ///
    /// # Errors
    /// `Integrity` for a payload that is not what was sent; `Transient` when the store does not answer.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        match self.pieces.recv().await {
            Some(Ok(piece)) => Ok(Some(piece)),
            Some(Err(error)) => Err(error),
            None => Ok(None),
        }
    }
}

/// Opens a payload as a stream.
pub(crate) async fn stream(resources: Arc<Resources>, reference: &Reference) -> Result<PayloadStream> {
    let bounds = Bounds::of(&resources, reference)?;
    let download = Download::open(&resources, reference, &bounds).await?;
    let (sender, pieces) = mpsc::channel(PIECES_WAITING);
    let size = reference.size;
    tokio::spawn(pump(download, reference.clone(), bounds, sender));
    Ok(PayloadStream { pieces, size })
}

async fn pump(download: Download, reference: Reference, bounds: Bounds, sender: mpsc::Sender<Result<Bytes>>) {
    let buffering = match reference.prefix_sums {
        Some(_) => Buffering::Chunk,
        None if reference.size.unwrap_or(download.bytes()) <= SPOOL_ABOVE_BYTES && reference.compression == Compression::None => Buffering::Chunk,
        None if reference.sha256.is_some() => Buffering::File,
        None => Buffering::Nothing,
    };
    let pump = Pump { verifier: Verifier::new(&reference, buffering), sender: sender.clone(), payload_bytes_max: bounds.payload };
    let result = match reference.compression {
        Compression::None => pump.plain(download, &reference).await,
        _ => pump.inflated(download, reference).await,
    };
    if let Err(error) = result {
        // nobody listens any more, or hears of it now
        _ = sender.send(Err(error)).await;
    }
}

/// Where bytes wait until they are verified.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Buffering {
    /// In memory, up to the next sum.
    Chunk,
    /// In a file, up to the end: the reference has no sums in between.
    File,
    /// They do not wait: the reference has no checksum at all, and the settings allow that.
    Nothing,
}

struct Verifier {
    hasher: Hasher,
    chunk: u64,
    sums: Vec<[u8; PREFIX_SUM_BYTES]>,
    held: BytesMut,
    buffering: Buffering,
}

impl Verifier {
    fn new(reference: &Reference, buffering: Buffering) -> Verifier {
        let (chunk, sums) = reference.prefix_sums.as_ref().map_or((u64::MAX / 2, Vec::new()), |sums| (sums.chunk, sums.sums.clone()));
        Verifier { hasher: Hasher::with_chunk(chunk), chunk, sums, held: BytesMut::new(), buffering }
    }

    /// Takes bytes; gives those that are verified now.
    fn take(&mut self, mut bytes: &[u8], reference: &Reference) -> Result<Vec<Bytes>> {
        let mut verified = Vec::new();
        while !bytes.is_empty() {
            let room = usize::try_from(self.chunk - self.hasher.bytes() % self.chunk).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(bytes.len().min(room));
            self.hasher.update(now);
            self.held.extend_from_slice(now);
            bytes = later;
            let done = self.hasher.bytes();
            // the last chunk waits for the end, whole or not
            let Some(sum) = self.sums.get(usize::try_from(done / self.chunk).unwrap_or(usize::MAX).wrapping_sub(1)) else { continue };
            if done.is_multiple_of(self.chunk) {
                if *sum != self.hasher.sum() {
                    let what = format!("the payload {} is not what was sent: bytes before {done} do not fit their checksum", shown(&reference.url()));
                    return Err(Error::refused(Reason::Sha256Mismatch, what)
                        .hint("the object was changed after it was sent; nothing of this chunk is handed out"));
                }
                verified.push(self.held.split().freeze());
            }
        }
        if self.buffering == Buffering::Nothing {
            verified.push(self.held.split().freeze());
        }
        Ok(verified)
    }
}

struct Pump {
    verifier: Verifier,
    sender: mpsc::Sender<Result<Bytes>>,
    payload_bytes_max: u64,
}

impl Pump {
    async fn plain(mut self, mut download: Download, reference: &Reference) -> Result<()> {
        if self.verifier.buffering == Buffering::File {
            return self.through_a_file(download, reference).await;
        }
        while let Some(piece) = download.next(reference).await? {
            for piece in self.verifier.take(&piece, reference)? {
                if self.sender.send(Ok(piece)).await.is_err() {
                    return Ok(());
                }
            }
        }
        let rest = self.verifier.held.split().freeze();
        check_end(reference, self.verifier.hasher)?;
        if !rest.is_empty() {
            _ = self.sender.send(Ok(rest)).await;
        }
        Ok(())
    }

    /// Without sums in between the whole is read and compared first; it lies in a file meanwhile, not in memory.
    async fn through_a_file(mut self, mut download: Download, reference: &Reference) -> Result<()> {
        let mut file = spool()?;
        while let Some(piece) = download.next(reference).await? {
            self.verifier.hasher.update(&piece);
            file = work::beside(move || std::io::Write::write_all(&mut file, &piece).map(|()| file)).await?.map_err(no_room)?;
        }
        check_end(reference, self.verifier.hasher)?;
        work::beside(move || hand_out(file, &self.sender)).await?
    }

    /// Inflating blocks: it has a thread, fed by the download.
    async fn inflated(mut self, mut download: Download, reference: Reference) -> Result<()> {
        let (feed, fed) = mpsc::channel::<Bytes>(PIECES_WAITING);
        let compression = reference.compression;
        let of_thread = reference.clone();
        let inflating = work::beside(move || {
            let broken = |error: std::io::Error| Error::refused(Reason::DecompressionFailed, "the object cannot be decompressed").source(error);
            let object = std::io::BufReader::with_capacity(compress::PIECE_BYTES, Fed { pieces: fed, piece: Bytes::new() });
            let mut payload = compress::inflater(compression, object).map_err(broken)?;
            let mut buffer = vec![0; compress::PIECE_BYTES];
            let mut file = if self.verifier.buffering == Buffering::File { Some(spool()?) } else { None };
            loop {
                let read = payload.read(&mut buffer).map_err(broken)?;
                if read == 0 {
                    break;
                }
                if self.verifier.hasher.bytes() + read as u64 > self.payload_bytes_max {
                    return Err(compress::too_large(self.payload_bytes_max));
                }
                if let Some(file) = &mut file {
                    self.verifier.hasher.update(&buffer[..read]);
                    std::io::Write::write_all(file, &buffer[..read]).map_err(no_room)?;
                    continue;
                }
                for piece in self.verifier.take(&buffer[..read], &of_thread)? {
                    if self.sender.blocking_send(Ok(piece)).is_err() {
                        return Ok(());
                    }
                }
            }
            let rest = self.verifier.held.split().freeze();
            check_end(&of_thread, self.verifier.hasher)?;
            match file {
                Some(file) => hand_out(file, &self.sender),
                None if rest.is_empty() => Ok(()),
                None => {
                    _ = self.sender.blocking_send(Ok(rest));
                    Ok(())
                }
            }
        });
        let fed = async move {
            while let Some(piece) = download.next(&reference).await? {
                if feed.send(piece).await.is_err() {
                    break;
                }
            }
            Ok(())
        };
        let (inflated, fed) = tokio::join!(inflating, fed);
        let inflated = inflated?;
        // a download that broke off is the cause, the broken stream its consequence
        fed.and(inflated)
    }
}

fn spool() -> Result<std::fs::File> {
    tempfile::tempfile().map_err(no_room)
}

fn no_room(error: std::io::Error) -> Error {
    Error::new(Kind::Fatal, "a payload cannot be kept in a temporary file until it is verified").hint("make room, or set `TMPDIR`").source(error)
}

/// Gives what lies in a file, in pieces.
fn hand_out(mut file: std::fs::File, sender: &mpsc::Sender<Result<Bytes>>) -> Result<()> {
    std::io::Seek::rewind(&mut file).map_err(no_room)?;
    loop {
        let mut piece = vec![0; compress::PIECE_BYTES];
        let read = file.read(&mut piece).map_err(no_room)?;
        piece.truncate(read);
        if read == 0 || sender.blocking_send(Ok(piece.into())).is_err() {
            return Ok(());
        }
    }
}

/// What the download brings, for a thread that reads.
struct Fed {
    pieces: mpsc::Receiver<Bytes>,
    piece: Bytes,
}

impl Read for Fed {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        while self.piece.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.piece = piece,
                None => return Ok(0),
            }
        }
        let bytes = out.len().min(self.piece.len());
        out[..bytes].copy_from_slice(&self.piece.split_to(bytes));
        Ok(bytes)
    }
}
