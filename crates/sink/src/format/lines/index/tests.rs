use super::{runs::OPEN_RUNS_BYTES_MAX, *};
use proptest::{collection::vec, option, prelude::*};
use std::sync::Mutex;

/// Records of the blocks of a file: offset (as the step from the one before) and timestamp.
type Blocks = Vec<Vec<(u64, Option<i64>)>>;

fn blocks() -> impl Strategy<Value = Blocks> {
    let step = prop_oneof![8 => Just(1_u64), 2 => Just(0), 2 => 2..2000_u64, 1 => 0..(1_u64 << 40)];
    vec(vec((step, option::of(any::<i64>())), 1..40), 0..20)
}

/// What the index must say of each block.
struct Said {
    offsets: Vec<i64>,
    timestamps: Option<Bounds>,
    bytes: u64,
    content_bytes: u64,
}

fn write(blocks: &Blocks, compression: Compression) -> (Bytes, Vec<Said>) {
    let (mut writer, mut open, mut offset, mut said) = (IndexWriter::default(), OpenBlock::default(), 0_i64, Vec::new());
    for (number, records) in blocks.iter().enumerate() {
        let (mut offsets, mut timestamps) = (Vec::new(), None);
        for (step, timestamp) in records {
            offset += i64::try_from(*step).unwrap();
            offsets.push(offset);
            timestamp.iter().for_each(|timestamp| Bounds::widen(&mut timestamps, *timestamp));
            open.add(offset, *timestamp);
        }
        let (bytes, content_bytes) = (100 + number as u64, 10_000 + number as u64);
        writer.add(bytes, content_bytes, &mut open);
        open.clear();
        said.push(Said { offsets, timestamps, bytes, content_bytes });
    }
    let data_bytes = said.iter().map(|said| said.bytes).sum();
    let mut file = vec![b'x'; usize::try_from(data_bytes).unwrap()];
    writer.finish(compression, data_bytes, &mut file);
    (file.into(), said)
}

/// Answers ranges of a file and remembers how many.
struct Counting {
    file: Bytes,
    requests: Mutex<Vec<Range<u64>>>,
}

#[async_trait::async_trait]
impl RangeRead for Counting {
    async fn range(&self, range: Range<u64>) -> Result<Bytes> {
        self.requests.lock().unwrap().push(range.clone());
        self.file.range(range).await
    }
    async fn size(&self) -> Result<u64> {
        self.file.size().await
    }
}

fn read_counting(file: Bytes, compression: Compression) -> (BlockIndex, usize) {
    let counting = Counting { file, requests: Mutex::default() };
    let index = BlockIndex::read(&counting, compression).now_or_never().unwrap().unwrap().unwrap();
    (index, counting.requests.into_inner().unwrap().len())
}

proptest! {
    #[test]
    fn an_index_reads_back_as_what_was_added(blocks in blocks(), zstd in any::<bool>()) {
        let compression = if zstd { Compression::Zstd } else { Compression::Gzip };
        let (file, said) = write(&blocks, compression);
        let index = BlockIndex::of_bytes(&file, compression).unwrap().unwrap();
        prop_assert_eq!(index.blocks().len(), said.len());
        let mut position = 0;
        for (number, (block, said)) in index.blocks().iter().zip(&said).enumerate() {
            prop_assert_eq!((block.position, block.bytes, block.content_bytes), (position, said.bytes, said.content_bytes));
            prop_assert_eq!(block.rows, said.offsets.len() as u64);
            prop_assert_eq!(block.timestamps, said.timestamps);
            prop_assert_eq!(block.offsets, Bounds { min: said.offsets[0], max: *said.offsets.last().unwrap() });
            prop_assert_eq!(index.offsets(number).collect::<Option<Vec<_>>>(), Some(said.offsets.clone()));
            position += block.bytes;
        }
    }

    #[test]
    fn a_range_of_offsets_is_located_in_exactly_the_blocks_that_span_it(blocks in blocks(), from in 0..20_000_i64, width in 1..3000_i64) {
        let (file, said) = write(&blocks, Compression::Gzip);
        let index = BlockIndex::of_bytes(&file, Compression::Gzip).unwrap().unwrap();
        let wanted = from..from + width;
        let located = index.locate(wanted.clone());
        for (number, said) in said.iter().enumerate() {
            let overlaps = said.offsets[0] < wanted.end && *said.offsets.last().unwrap() >= wanted.start;
            prop_assert_eq!(located.contains(&number), overlaps, "block {}", number);
        }
    }

    #[test]
    fn no_bytes_make_decoding_panic_or_take_more_than_their_number_allows(payload in vec(any::<u8>(), 0..600), blocks in any::<u32>(), data_bytes in any::<u64>()) {
        let bytes = payload.len();
        if let Ok(index) = BlockIndex::decode(payload.into(), blocks, data_bytes) {
            prop_assert!(index.blocks.len() <= bytes / Block::BYTES_MIN);
        }
    }

    #[test]
    fn a_flipped_bit_is_an_error_or_hides_the_index_but_never_changes_it(blocks in blocks(), at in any::<prop::sample::Index>(), bit in 0..8_u8, zstd in any::<bool>()) {
        let compression = if zstd { Compression::Zstd } else { Compression::Gzip };
        let (file, said) = write(&blocks, compression);
        let data_bytes: u64 = said.iter().map(|said| said.bytes).sum();
        let whole = BlockIndex::of_bytes(&file, compression).unwrap().unwrap();
        let mut damaged = file.to_vec();
        let at = data_bytes as usize + at.index(file.len() - data_bytes as usize);
        damaged[at] ^= 1_u8 << bit;
        if let Ok(Some(index)) = BlockIndex::of_bytes(&damaged.into(), compression) {
            prop_assert_eq!(index.blocks(), whole.blocks());
            prop_assert_eq!(index.payload, whole.payload);
        }
    }
}

#[test]
fn the_usual_index_is_read_with_one_request_and_a_large_one_with_two_or_three() {
    for (compression, records, requests) in
        [(Compression::Gzip, 100, 1), (Compression::Zstd, 100, 1), (Compression::Gzip, 100_000, 2), (Compression::Zstd, 100_000, 2)]
    {
        let blocks: Blocks = (0..20).map(|_| vec![(3, Some(5)); records / 20]).collect();
        let (index, counted) = read_counting(write(&blocks, compression).0, compression);
        assert_eq!(index.rows(), records as u64);
        assert_eq!(counted, requests, "{compression:?} with {records} records");
    }
    let many_blocks: Blocks = (0..20_000).map(|_| vec![(1, None)]).collect();
    let (index, counted) = read_counting(write(&many_blocks, Compression::Zstd).0, Compression::Zstd);
    assert_eq!((index.blocks().len(), counted), (20_000, 3));
}

#[test]
fn an_index_without_gaps_takes_a_few_bytes_per_block() {
    let blocks: Blocks = (0..1000).map(|_| (0..5000).map(|_| (1, Some(1_700_000_000_000))).collect()).collect();
    let (file, said) = write(&blocks, Compression::Gzip);
    let index_bytes = file.len() as u64 - said.iter().map(|said| said.bytes).sum::<u64>();
    assert!(index_bytes < 1000 * 16, "{index_bytes}");
}

#[test]
fn a_file_with_more_gaps_than_an_index_has_room_for_keeps_the_bounds_of_its_blocks() {
    let (mut writer, mut open) = (IndexWriter::default(), OpenBlock::default());
    let (blocks, records) = (12, 1_000_000_i64);
    for block in 0..blocks {
        (0..records).for_each(|record| open.add((block * records + record) * 2, None));
        assert!(open.buffered() <= 3 * OPEN_RUNS_BYTES_MAX, "{}", open.buffered());
        writer.add(1, 2 << 20, &mut open);
        open.clear();
    }
    let mut file = vec![0; blocks as usize];
    writer.finish(Compression::Zstd, blocks as u64, &mut file);
    assert!(file.len() < DETAIL_BYTES_MAX + (1 << 20), "{}", file.len());
    let index = BlockIndex::of_bytes(&file.into(), Compression::Zstd).unwrap().unwrap();
    assert_eq!(index.rows(), (blocks * records) as u64);
    let known = |block| index.offsets(block).flatten().count() as i64;
    assert_eq!(known(0), records, "there was room for the first blocks");
    assert_eq!(known(11), 0, "and none for the last");
    assert_eq!(index.offsets(11).count() as i64, records);
    assert_eq!(index.blocks()[11].offsets, Bounds { min: 11 * records * 2, max: (12 * records - 1) * 2 });
}

#[test]
fn an_index_of_a_newer_version_names_its_version() {
    let (file, _) = write(&vec![vec![(1, None)]], Compression::Gzip);
    let mut newer = file.to_vec();
    let version = newer.windows(4).rposition(|bytes| bytes == b"kas3").unwrap() + 4;
    newer[version] = 2;
    let error = BlockIndex::of_bytes(&newer.into(), Compression::Gzip).unwrap_err();
    assert!(error.to_string().contains("version `2`"), "{error}");
    assert!(error.way_out().is_some());
}

#[test]
fn files_put_one_behind_the_other_and_files_of_others_have_no_index() {
    for compression in [Compression::Gzip, Compression::Zstd] {
        let (file, _) = write(&vec![vec![(1, None)]], compression);
        let twice = Bytes::from([file.clone(), file].concat());
        assert!(BlockIndex::of_bytes(&twice, compression).unwrap().is_none());
        for foreign in [&b""[..], b"x", &[0; 9], &[0; 100]] {
            assert!(BlockIndex::of_bytes(&Bytes::copy_from_slice(foreign), compression).unwrap().is_none());
        }
    }
}
