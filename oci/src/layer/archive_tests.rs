use tar::{Builder, EntryType};

use super::*;

/// An archive with one entry, as the tar crate writes it.
fn one(change: impl FnOnce(&mut Header), path: &str, content: &[u8]) -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_700_000_000);
    change(&mut header);
    let mut builder = Builder::new(Vec::new());
    builder.append_data(&mut header, path, content).unwrap();
    builder.into_inner().unwrap()
}

/// The same with a pax header before it.
fn with_records(records: &[(&str, &[u8])], entry: &[u8]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    builder.append_pax_extensions(records.iter().copied()).unwrap();
    let mut before = builder.into_inner().unwrap();
    before.truncate(before.len() - 2 * BLOCK_BYTES);
    [&before, entry].concat()
}

fn read_all(bytes: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, LayerError> {
    let mut archive = Archive::new(bytes, 64 << 20);
    let mut all = Vec::new();
    while let Some(entry) = archive.next()? {
        let mut content = Vec::new();
        let mut chunk = [0; 700];
        loop {
            match archive.read(&mut chunk)? {
                0 => break,
                taken => content.extend_from_slice(&chunk[..taken]),
            }
        }
        all.push((entry, content));
    }
    let (length, _) = archive.finish()?;
    assert_eq!(length, bytes.len() as u64, "all of it is read");
    Ok(all)
}

fn only(bytes: &[u8]) -> (Entry, Vec<u8>) {
    let mut all = read_all(bytes).unwrap();
    assert_eq!(all.len(), 1);
    all.remove(0)
}

fn refused(bytes: &[u8]) -> String {
    read_all(bytes).unwrap_err().to_string()
}

#[test]
fn a_file_has_all_that_its_header_says() {
    let change = |header: &mut Header| {
        header.set_mode(0o104_755);
        header.set_uid(70_000);
        header.set_gid(3_000_000_000);
        header.set_mtime(9_000_000_000);
    };
    let (entry, content) = only(&one(change, "usr/bin/su", b"hello"));
    assert_eq!(content, b"hello");
    assert_eq!(
        entry,
        Entry {
            path: b"usr/bin/su".to_vec(),
            kind: Kind::File {
                size: 5,
                pieces: vec![Piece { offset: 0, length: 5 }]
            },
            mode: 0o4755,
            uid: 70_000,
            gid: 3_000_000_000,
            modified: (9_000_000_000, 0),
            attributes: vec![],
            beside: vec![],
        }
    );
}

#[test]
fn long_names_are_read_in_both_forms() {
    let path = format!("{}/{}", "d".repeat(150), "f".repeat(200));
    let (entry, content) = only(&one(|_| {}, &path, b"x"));
    assert_eq!((entry.path, content), (path.clone().into_bytes(), b"x".to_vec()));

    let mut builder = Builder::new(Vec::new());
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Symlink);
    header.set_size(0);
    builder.append_link(&mut header, &path, &path).unwrap();
    let (entry, _) = only(&builder.into_inner().unwrap());
    assert_eq!(entry.path, path.as_bytes());
    let target = path.clone().into_bytes();
    assert_eq!(entry.kind, Kind::SymbolicLink { target });

    let records: [(&str, &[u8]); 2] = [("path", path.as_bytes()), ("size", b"3")];
    let (entry, content) = only(&with_records(&records, &one(|_| {}, "short", b"abc")));
    assert_eq!((entry.path, content), (path.into_bytes(), b"abc".to_vec()));
}

#[test]
fn records_count_for_the_next_entry_only_and_over_its_header() {
    let records: [(&str, &[u8]); 5] = [
        ("uid", b"4000000000"),
        ("gid", b"5"),
        ("mtime", b"-1.5"),
        ("SCHILY.xattr.security.capability", b"\x01\0\0\x02\n\0"),
        ("comment", b"nothing"),
    ];
    let mut both = with_records(&records, &one(|_| {}, "a", b""));
    both.truncate(both.len() - 2 * BLOCK_BYTES);
    both.extend(one(|_| {}, "b", b""));
    let all = read_all(&both).unwrap();
    let [(first, _), (second, _)] = all.as_slice() else {
        panic!("{all:?}")
    };
    assert_eq!(
        (first.uid, first.gid, first.modified),
        (4_000_000_000, 5, (-2, 500_000_000))
    );
    let name = b"security.capability".to_vec();
    assert_eq!(first.attributes, [(name, b"\x01\0\0\x02\n\0".to_vec())]);
    assert_eq!((second.uid, second.gid, second.attributes.len()), (0, 0, 0));
}

#[test]
fn an_archive_ends_with_zeros_or_without_and_what_is_behind_is_read() {
    let whole = one(|_| {}, "a", b"x");
    for end in [
        whole.len(),
        whole.len() - BLOCK_BYTES,
        whole.len() - 2 * BLOCK_BYTES,
    ] {
        assert_eq!(read_all(&whole[..end]).unwrap().len(), 1);
    }
    let trailed = [&whole[..], &[7; 3000]].concat();
    assert_eq!(read_all(&trailed).unwrap().len(), 1);
    assert_eq!(read_all(b"").unwrap().len(), 0);
    assert_eq!(read_all(&[0; 10_240]).unwrap().len(), 0);
}

#[test]
fn a_number_is_octal_binary_or_nothing() {
    for (field, expected) in [
        (&b"0000644\0"[..], Some(0o644)),
        (b"   644 \0", Some(0o644)),
        (b"\0\0\0\0\0\0\0\0", Some(0)),
        (b"        ", Some(0)),
        (b"\x80\0\0\0\0\0\x01\0", Some(256)),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff", Some(-1)),
        (b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", Some(i64::MAX)),
        (b"\x80\0\0\0\x80\0\0\0\0\0\0\0", None),
        (b"0000648\0", None),
        (b"-000644\0", None),
        (b"+644\0\0\0\0", None),
        (b"1\xc3\x28\0", None),
    ] {
        assert_eq!(field_number(field), expected, "{}", field.escape_ascii());
    }
}

#[test]
fn a_damaged_archive_is_named_with_its_place() {
    let good = one(|_| {}, "a", b"hello");
    let mut sum = good.clone();
    sum[0] = b'b';
    assert!(
        refused(&sum).contains("byte 512 of it: the sum of a header is wrong"),
        "{}",
        refused(&sum)
    );
    assert!(refused(&good[..300]).contains("byte 300 of it: it ends in the middle of a block"));
    assert!(refused(&good[..514]).contains("it ends in the middle of a file"));
    let mut between = good[..1024].to_vec();
    between.extend([0; 512]);
    between.extend(&good);
    assert!(refused(&between).contains("a block of zeros stands between entries"));
    assert!(refused(&one(|header| header.set_uid(u64::from(u32::MAX)), "a", b"")).contains("uid 4294967295"));
    let field = |header: &mut Header| header.as_old_mut().mtime[3] = b'x';
    assert!(refused(&one(field, "a", b"")).contains("mtime"));
    let kind = |header: &mut Header| header.set_entry_type(EntryType::new(b'V'));
    assert!(refused(&one(kind, "a", b"")).contains("entry \"a\" is refused: it is of kind 'V'"));
    for (records, word) in [
        ([("size", &b"x"[..])], "size of a pax header is no number"),
        ([("uid", b"-1")], "uid of a pax header is no number"),
        ([("uid", b"4294967295")], "the uid 4294967295 is nobody's"),
        ([("mtime", b"now")], "mtime of a pax header is no time"),
    ] {
        let refused = refused(&with_records(&records, &good));
        assert!(refused.contains(word), "{refused}");
    }
    let mut bad_record = with_records(&[("path", b"abc")], &good);
    bad_record[512] = b'x';
    assert!(refused(&bad_record).contains("a record of a pax header is no record"));
}

#[test]
fn what_would_be_held_in_memory_has_a_bound() {
    let long = one(
        |header| {
            header.set_entry_type(EntryType::XHeader);
            header.set_size(HEADER_LIMIT_BYTES + 1);
        },
        "x",
        b"",
    );
    assert!(refused(&long).contains("1048577 B, 1048576 B are the most"));
    // It is not asked for more than came: a header that says 1 MiB and has nothing costs no time.
    let short = one(
        |header| {
            header.set_entry_type(EntryType::GNULongName);
            header.set_size(HEADER_LIMIT_BYTES);
        },
        "x",
        b"",
    );
    assert!(refused(&short[..512]).contains("it ends in the middle of a file"));
    let bomb = one(|_| {}, "a", &[0; 5000]);
    let mut archive = Archive::new(bomb.as_slice(), 4096);
    let entry = archive.next().unwrap();
    assert!(entry.is_some());
    let refused = archive.next().unwrap_err().to_string();
    assert!(refused.contains("more than 4096 B"), "{refused}");
}

#[test]
fn maps_of_sparse_files_are_read_in_all_forms() {
    let piece = |offset, length| Piece { offset, length };
    let content = b"aaabb";
    let expected = Kind::File {
        size: 100,
        pieces: vec![piece(10, 3), piece(50, 2)],
    };
    let forms: [&[(&str, &[u8])]; 3] = [
        &[
            ("GNU.sparse.size", b"100"),
            ("GNU.sparse.numblocks", b"3"),
            ("GNU.sparse.offset", b"10"),
            ("GNU.sparse.numbytes", b"3"),
            ("GNU.sparse.offset", b"50"),
            ("GNU.sparse.numbytes", b"2"),
            ("GNU.sparse.offset", b"100"),
            ("GNU.sparse.numbytes", b"0"),
        ],
        &[
            ("GNU.sparse.size", b"100"),
            ("GNU.sparse.name", b"real"),
            ("GNU.sparse.map", b"10,3,50,2,100,0"),
        ],
        &[
            ("GNU.sparse.major", b"0"),
            ("GNU.sparse.minor", b"1"),
            ("GNU.sparse.size", b"100"),
            ("GNU.sparse.map", b"10,3,50,2"),
        ],
    ];
    for (number, records) in forms.iter().enumerate() {
        let (entry, read) = only(&with_records(records, &one(|_| {}, "given", content)));
        assert_eq!((entry.kind, read.as_slice()), (expected.clone(), &content[..]));
        let name = if number == 1 { "real" } else { "given" };
        assert_eq!(entry.path, name.as_bytes());
    }
    let mut in_content = b"2\n10\n3\n50\n2\n".to_vec();
    in_content.resize(512, 0);
    in_content.extend(content);
    let records: [(&str, &[u8]); 4] = [
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"real"),
        ("GNU.sparse.realsize", b"100"),
    ];
    let (entry, read) = only(&with_records(&records, &one(|_| {}, "given", &in_content)));
    assert_eq!((entry.kind, read.as_slice()), (expected.clone(), &content[..]));

    let old = |header: &mut Header| {
        header.set_entry_type(EntryType::GNUSparse);
        let gnu = header.as_gnu_mut().unwrap();
        gnu.set_real_size(100);
        for (at, (offset, length)) in [(10, 3), (50, 2)].into_iter().enumerate() {
            gnu.sparse[at].set_offset(offset);
            gnu.sparse[at].set_length(length);
        }
        // Where the file ends.
        gnu.sparse[2].set_offset(100);
        gnu.sparse[2].set_length(0);
    };
    let (entry, read) = only(&one(old, "given", content));
    assert_eq!((entry.kind, read.as_slice()), (expected, &content[..]));
}

#[test]
fn maps_that_do_not_fit_their_file_are_refused() {
    let few = format!("1000\n{}", "1\n".repeat(253));
    let many = format!("65537\n{}", "0\n".repeat(10));
    for (map, word) in [
        (&b"10,3,50,3"[..], "5 B, and its map 6 B"),
        (b"10,3,9,2", "not in order"),
        (b"10,3,99,2", "outside of a sparse file of 100 B"),
        (b"18446744073709551615,5", "outside"),
        (b"10,3,50", "no list of pairs"),
        (b"10;3", "no list of pairs"),
    ] {
        let records: [(&str, &[u8]); 2] = [("GNU.sparse.size", b"100"), ("GNU.sparse.map", map)];
        let refused = refused(&with_records(&records, &one(|_| {}, "a", b"aaabb")));
        assert!(refused.contains(word), "{refused}");
    }
    for (map, word) in [
        (&b"x\n"[..], "no number"),
        (b"111111111111111111111\n", "no number"),
        (few.as_bytes(), "longer than its content"),
        (many.as_bytes(), "more than 65536 pieces"),
    ] {
        let mut content = map.to_vec();
        content.resize(512, b'1');
        let records: [(&str, &[u8]); 2] = [("GNU.sparse.major", b"1"), ("GNU.sparse.realsize", b"100")];
        let refused = refused(&with_records(&records, &one(|_| {}, "a", &content)));
        assert!(refused.contains(word), "{refused}");
    }
    let no_size: [(&str, &[u8]); 1] = [("GNU.sparse.map", b"0,5")];
    assert!(refused(&with_records(&no_size, &one(|_| {}, "a", b"aaabb"))).contains("no size"));
    let unknown: [(&str, &[u8]); 2] = [("GNU.sparse.major", b"2"), ("GNU.sparse.realsize", b"5")];
    assert!(refused(&with_records(&unknown, &one(|_| {}, "a", b"aaabb"))).contains("the form 2"));
    let huge: [(&str, &[u8]); 2] = [
        ("GNU.sparse.map", b"0,5"),
        ("GNU.sparse.size", b"9223372036854775808"),
    ];
    assert!(refused(&with_records(&huge, &one(|_| {}, "a", b"aaabb"))).contains("which no file has"));
}
