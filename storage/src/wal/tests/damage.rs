//! Cut and flipped log files: a prefix or corruption, never a wrong value.

use super::super::frame::{HEADER_BYTES, file_name, file_number, file_path};
use super::*;
use crate::ErrorKind;

/// A log of `count` records in synced groups of `group` records; one file.
fn synced_log(count: u32, group: u32) -> SimFs {
    let fs = SimFs::default();
    let mut writer = open(&fs, 1 << 20).unwrap();
    let mut next = 1;
    while next <= count {
        let end = (next + group).min(count + 1);
        append(&mut writer, next..end).unwrap();
        writer.sync().unwrap();
        next = end;
    }
    fs
}

fn with_bytes(bytes: &[u8]) -> SimFs {
    let fs = SimFs::default();
    fs.put(&file_path(Path::new(DIR), 1), bytes);
    fs
}

/// The only file of a log.
fn bytes_of(fs: &SimFs) -> Vec<u8> {
    fs.get(&file_path(Path::new(DIR), 1)).unwrap()
}

/// End of each record in the file.
fn record_ends(count: u32) -> Vec<usize> {
    let mut end = HEADER_BYTES;
    let step = |number| {
        end += super::super::frame::FRAME_BYTES + payload(number).len();
        end
    };
    (1..=count).map(step).collect()
}

#[test]
fn replay_truncated_at_every_byte_is_exact_prefix() {
    const COUNT: u32 = 220;
    let whole = bytes_of(&synced_log(COUNT, 3));
    let ends = record_ends(COUNT);
    assert_eq!(ends.last(), Some(&whole.len()));
    let all = numbered(COUNT);
    for len in 0..=whole.len() {
        let fs = with_bytes(&whole[..len]);
        let (records, report) = read(&fs, 0).unwrap();
        let kept = ends.partition_point(|end| *end <= len);
        assert_eq!(records.len(), kept, "cut at {len}");
        assert!(records == all[..kept], "cut at {len}");
        let good =
            if len < HEADER_BYTES { 0 } else { kept.checked_sub(1).map_or(HEADER_BYTES, |last| ends[last]) };
        assert_eq!(report.torn_bytes, (len - good) as u64);
        assert_eq!(report.next_seq, kept as u64 + 1);
    }
}

#[test]
fn replay_after_a_cut_goes_on_in_a_new_file() {
    let whole = bytes_of(&synced_log(9, 3));
    for len in (0..=whole.len()).step_by(5) {
        let fs = with_bytes(&whole[..len]);
        let (before, report) = read(&fs, 0).unwrap();
        let mut writer = open(&fs, 1 << 20).unwrap();
        let next = u32::try_from(report.next_seq).unwrap();
        assert_eq!(append(&mut writer, next..next + 2).unwrap(), report.next_seq);
        writer.sync().unwrap();
        let (after, report) = read(&fs, 0).unwrap();
        assert_eq!(after, numbered(next + 1), "cut at {len}");
        assert_eq!((report.torn_bytes, after.len()), (0, before.len() + 2));
    }
}

#[test]
fn replay_every_bit_flipped_is_same_prefix_or_corruption() {
    const COUNT: u32 = 30;
    let whole = bytes_of(&synced_log(COUNT, 2));
    let last_group = record_ends(COUNT)[COUNT as usize - 3];
    let all = numbered(COUNT);
    for bit in 0..whole.len() * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        match read(&with_bytes(&bytes), 0) {
            Ok((records, report)) => {
                // Only the last group may be taken for a torn tail: nothing behind it knew it synced.
                assert!(last_group <= bit / 8, "bit {bit} in a synced group was taken for a torn tail");
                assert!(COUNT as usize - 2 <= records.len(), "bit {bit}");
                assert!(all.starts_with(&records) && 0 < report.torn_bytes, "bit {bit}");
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Corruption, "bit {bit}");
                assert!(error.to_string().contains("wal-0000000000000001.log"), "{error}");
            }
        }
    }
}

#[test]
fn replay_bit_flipped_in_an_older_file_is_corruption() {
    let fs = SimFs::default();
    let mut writer = open(&fs, 200).unwrap();
    (1..10).for_each(|number| _ = append(&mut writer, number..number + 1).unwrap());
    let paths = files(&fs);
    assert!(3 <= paths.len());
    let whole = fs.get(&paths[0]).unwrap();
    for bit in 0..whole.len() * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        fs.put(&paths[0], &bytes);
        assert_eq!(read(&fs, 0).unwrap_err().kind(), ErrorKind::Corruption, "bit {bit}");
    }
    for len in 0..whole.len() {
        fs.put(&paths[0], &whole[..len]);
        assert_eq!(read(&fs, 0).unwrap_err().kind(), ErrorKind::Corruption, "cut at {len}");
    }
}

#[test]
fn replay_torn_group_that_no_frame_knows_synced_is_dropped() {
    // Groups 1..=3 unsynced: later pages may be there and earlier ones not.
    let fs = SimFs::default();
    let mut writer = open(&fs, 1 << 20).unwrap();
    (1..4).for_each(|number| _ = append(&mut writer, number..number + 1).unwrap());
    let ends = record_ends(3);
    let mut bytes = bytes_of(&fs);
    bytes[ends[0] + 20] ^= 1;
    let (records, report) = read(&with_bytes(&bytes), 0).unwrap();
    assert_eq!(records, numbered(1));
    assert_eq!(report.torn_bytes, (ends[2] - ends[0]) as u64);

    // The same damage with a later frame that knew group 2 synced.
    writer.sync().unwrap();
    append(&mut writer, 4..5).unwrap();
    let mut bytes = bytes_of(&fs);
    bytes[ends[0] + 20] ^= 1;
    let error = read(&with_bytes(&bytes), 0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corruption);
    assert!(error.to_string().contains(&format!("offset {}", ends[0])), "{error}");
}

#[test]
fn replay_torn_group_keeps_its_whole_leading_frames() {
    let whole = bytes_of(&synced_log(6, 3));
    let ends = record_ends(6);
    let fs = with_bytes(&whole[..ends[4] + 3]);
    assert_eq!(read(&fs, 0).unwrap().0, numbered(5));
    let mut writer = open(&fs, 1 << 20).unwrap();
    append(&mut writer, 6..8).unwrap();
    assert_eq!(read(&fs, 0).unwrap().0, numbered(7));
}

#[test]
fn replay_missing_file_is_corruption_unless_below_the_floor() {
    let fs = SimFs::default();
    let mut writer = open(&fs, 150).unwrap();
    (1..13).for_each(|number| _ = append(&mut writer, number..number + 1).unwrap());
    let paths = files(&fs);
    assert!(4 <= paths.len());
    let (_, report) = read(&fs, 0).unwrap();
    let third = report.files[2].first_seq;
    fs.remove(&paths[1]).unwrap();
    assert_eq!(read(&fs, third - 1).unwrap_err().kind(), ErrorKind::Corruption);
    assert_eq!(read(&fs, third).unwrap().0, numbered(12)[third as usize - 1..]);
    fs.remove(&paths[0]).unwrap();
    assert_eq!(read(&fs, third - 1).unwrap_err().kind(), ErrorKind::Corruption);
    assert_eq!(read(&fs, third + 1).unwrap().1.records, 12 - third);
}

#[test]
fn replay_damage_below_the_floor_harms_nobody() {
    let fs = SimFs::default();
    let mut writer = open(&fs, 150).unwrap();
    (1..13).for_each(|number| _ = append(&mut writer, number..number + 1).unwrap());
    let first = fs.get(&files(&fs)[0]).unwrap();
    fs.put(&files(&fs)[0], &first[..first.len() - 1]);
    assert!(read(&fs, 1).is_err());
    assert_eq!(read(&fs, 8).unwrap().0, numbered(12)[7..]);
}

#[test]
fn replay_empty_or_bare_newest_file_is_legal_and_followed() {
    for bare_bytes in [0, 10, HEADER_BYTES] {
        let fs = synced_log(4, 2);
        let mut header = super::super::frame::Header { number: 2, first_seq: 5, first_group: 3 }.encode();
        header.truncate(bare_bytes);
        fs.put(&file_path(Path::new(DIR), 2), &header);
        assert_eq!(read(&fs, 0).unwrap().0, numbered(4));
        let mut writer = open(&fs, 1 << 20).unwrap();
        append(&mut writer, 5..6).unwrap();
        assert_eq!(read(&fs, 0).unwrap().0, numbered(5));
        let kept = usize::from(bare_bytes == HEADER_BYTES);
        assert_eq!(files(&fs).len(), 2 + kept, "a whole header proves what is before it");
    }
}

#[test]
fn replay_newest_file_without_a_whole_header_is_corruption_once_it_is_named() {
    for left in 0..HEADER_BYTES {
        let fs = synced_log(4, 2);
        let path = file_path(Path::new(DIR), 1);
        fs.put(&path, &bytes_of(&fs)[..left]);
        let error = read(&fs, 0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corruption, "cut at {left}");
        assert!(error.to_string().contains("wal-0000000000000001.log: file header is cut short"), "{error}");
        // A file that was begun after it says nothing of it.
        let header = super::super::frame::Header { number: 2, first_seq: 5, first_group: 3 }.encode();
        fs.put(&file_path(Path::new(DIR), 2), &header);
        assert_eq!(read(&fs, 0).unwrap_err().kind(), ErrorKind::Corruption, "cut at {left}");
        fs.remove(&path).unwrap();
        let error = read(&fs, 5).unwrap_err();
        assert!(
            error.to_string().contains("wal-0000000000000001.log: it is named by the manifest"),
            "{error}"
        );
    }
}

#[test]
fn replay_no_directory_is_an_empty_log() {
    let (records, report) = read(&SimFs::default(), 40).unwrap();
    assert_eq!((records.len(), report.next_seq), (0, 40));
}

#[test]
fn replay_other_version_is_a_conflict() {
    let mut bytes = bytes_of(&synced_log(2, 1));
    bytes[6] = 3;
    let crc = crc32fast::hash(&bytes[..HEADER_BYTES - 4]).to_le_bytes();
    bytes[HEADER_BYTES - 4..HEADER_BYTES].copy_from_slice(&crc);
    assert_eq!(read(&with_bytes(&bytes), 0).unwrap_err().kind(), ErrorKind::Conflict);
}

#[test]
fn replay_repeated_or_swapped_frames_are_corruption() {
    let whole = bytes_of(&synced_log(3, 1));
    let ends = record_ends(3);
    let repeated = [&whole[..ends[1]], &whole[ends[0]..]].concat();
    assert_eq!(read(&with_bytes(&repeated), 0).unwrap_err().kind(), ErrorKind::Corruption);
    let left_out = [&whole[..ends[0]], &whole[ends[1]..]].concat();
    assert_eq!(read(&with_bytes(&left_out), 0).unwrap_err().kind(), ErrorKind::Corruption);
}

/// A header of each version, and the frame behind it.
const GOLDEN: [&str; 3] = [
    "49434557414c01000100000000000000010000000000000001000000000000007003fcdc",
    "49434557414c020001000000000000000100000000000000010000000000000088eeab2e",
    "020000004d73294601010100000000000000000000000000000001000000000000000000",
];

#[test]
fn log_of_each_version_keeps_its_bytes_and_is_read() {
    let fs = SimFs::default();
    let mut writer = open(&fs, 1 << 20).unwrap();
    writer.append(&[(1, &[0, 0])]).unwrap();
    let hex: String = bytes_of(&fs).iter().map(|byte| format!("{byte:02x}")).collect();
    let [first, newest, frame] = GOLDEN;
    assert_eq!(hex, [newest, frame].concat());
    for header in [first, newest] {
        let hex = [header, frame].concat();
        let byte = |place: usize| u8::from_str_radix(&hex[place..place + 2], 16).unwrap();
        let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
        let (records, report) = read(&with_bytes(&bytes), 0).unwrap();
        assert_eq!((records, report.torn_bytes), (vec![(1, Record::Definitions(Vec::new()))], 0));
    }
}

#[test]
fn file_number_takes_only_its_own_spelling() {
    assert_eq!(file_number(&file_name(255)), Some(255));
    for name in ["wal-00000000000000FF.log", "wal-ff.log", "MANIFEST", "wal-.log", "wal-00000000000000ff.tmp"]
    {
        assert_eq!(file_number(name), None, "{name}");
    }
}

#[test]
fn file_begun_by_a_release_says_after_each_start_what_is_covered() {
    let fs = SimFs::default();
    let mut writer = open(&fs, 1 << 20).unwrap();
    for number in 1..4 {
        append(&mut writer, number..number + 1).unwrap();
        writer.sync().unwrap();
    }
    let mut covered = bytes_of(&fs);
    covered[HEADER_BYTES + 5] ^= 1;
    writer.release(4).unwrap();
    // The power went before the covered file did, and then it rotted: it harms nobody.
    fs.put(&file_path(Path::new(DIR), 1), &covered);
    let reopen = |fs: &SimFs| {
        let (records, report) = read(fs, 4).unwrap();
        assert_eq!((records.len(), report.next_seq, report.next_group), (0, 4, 4));
        open_at(fs, &report, 1 << 20).unwrap()
    };
    reopen(&fs);
    reopen(&fs).release(4).unwrap();
    assert_eq!(files(&fs).len(), 1);
    reopen(&fs).release(4).unwrap();
    let error = read(&fs, 3).unwrap_err();
    assert!(error.to_string().contains("are missing"), "a manifest of before is refused: {error}");
    assert_eq!(append(&mut reopen(&fs), 4..5).unwrap(), 4);
    assert_eq!(read(&fs, 4).unwrap().0, numbered(4)[3..]);
}
