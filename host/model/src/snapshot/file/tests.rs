use super::*;

type Row = (u32, u32, Vec<u8>, Vec<u8>, Vec<u8>);

fn write(rows: &[Row]) -> Vec<u8> {
    let mut writer = StateWriter::default();
    let mut out = Vec::new();
    for (section, group, key, sub, value) in rows {
        writer.put(*section, *group, Entry { key, sub, value });
        out.extend(writer.take());
    }
    let (rest, length, checksum) = writer.finish();
    out.extend(rest);
    assert_eq!(out.len() as u64, length);
    assert_eq!(xxh3_64(&out), checksum);
    out
}

fn read(bytes: &[u8]) -> Result<Vec<Row>> {
    let mut reader = StateReader::new(bytes)?;
    let mut rows = Vec::new();
    while let Some(block) = reader.next_block()? {
        block.entries(|e| {
            rows.push((
                block.section,
                block.group,
                e.key.into(),
                e.sub.into(),
                e.value.into(),
            ));
            Ok(())
        })?;
    }
    Ok(rows)
}

fn some_rows() -> Vec<Row> {
    let row = |i: u32| {
        let n = i.to_be_bytes().to_vec();
        (
            i % 2,
            i % 3,
            n.clone(),
            Vec::new(),
            n.repeat(1 + i as usize % 60),
        )
    };
    (0..3_000).map(row).collect()
}

#[test]
fn what_is_written_is_read_back_in_the_order_of_each_group() {
    let rows = some_rows();
    let bytes = write(&rows);
    assert!(bytes.len() > 3 * BLOCK_BYTES, "several blocks");
    let (mut wanted, mut got) = (rows, read(&bytes).unwrap());
    wanted.sort_by_key(|r| (r.0, r.1));
    got.sort_by_key(|r| (r.0, r.1));
    assert_eq!(wanted, got);
    assert_eq!(read(&write(&[])).unwrap(), []);
}

#[test]
fn the_directory_leads_to_each_block() {
    let bytes = write(&some_rows());
    let range = |at: u64, len: u64| Ok(bytes[at as usize..(at + len) as usize].to_vec());
    let refs = BlockRef::all(bytes.len() as u64, range).unwrap();
    let mut entries = 0;
    for r in &refs {
        let block = Block::parse(&bytes[r.offset as usize..][..r.bytes() as usize]).unwrap();
        assert_eq!((block.section, block.group), (r.section, r.group));
        entries += block.len();
    }
    assert_eq!(entries, 3_000);
}

#[test]
fn any_bit_that_flips_and_any_byte_that_lacks_is_seen() {
    let bytes = write(&some_rows()[..40]);
    let good = read(&bytes).unwrap();
    let directory = bytes.len() - 16;
    for at in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[at] ^= 1 << (at % 8);
        // Where the directory is said to be matters to those alone who look there.
        if (directory..directory + 8).contains(&at) {
            let range = |at: u64, len: u64| {
                let part = bad.get(at as usize..(at + len) as usize);
                part.map(<[u8]>::to_vec).ok_or_else(|| corrupt("range"))
            };
            assert!(BlockRef::all(bad.len() as u64, range).is_err());
        } else {
            assert!(read(&bad).is_err(), "byte {at}");
        }
        assert!(read(&bytes[..at]).is_err(), "{at} bytes");
    }
    assert_eq!(read(&bytes).unwrap(), good);
}

/// Frozen: savepoints outlive releases.
#[test]
fn golden_file() {
    let bytes = write(&[
        (0, 76, vec![0x80, 0, 0, 0, 0, 0, 0, 42], vec![], vec![7]),
        (1, super::super::NO_GROUP, vec![], vec![1], vec![]),
    ]);
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    expect_test::expect!["504c545354415445010000000c000000fbd29631a44eafbf000000004c0000000100000008800000000000002a000107040000006cd63db79b82ea4c01000000ffffffff0100000000010100300000001bac7d1c498f39f0ffffffff0000000002000000000000004c0000000c000000000000000c0000000100000001000000ffffffff300000000000000004000000010000004c00000000000000504c545354454e44"].assert_eq(&hex);
}
