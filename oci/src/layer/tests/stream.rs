//! What comes is packed, damaged, cut short or another layer.

use super::*;

#[test]
fn gzip_and_zstd_are_told_from_their_first_bytes_and_damage_is_named() {
    let plain = Made::new().file("a", &"hello ".repeat(10_000)).bytes();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    let gzip = gzip.finish().unwrap();
    let zstd = zstd::encode_all(plain.as_slice(), 3).unwrap();
    // As estargz and zstd:chunked do it: several members, several frames.
    let halves = plain.split_at(5_000);
    let chunked: Vec<u8> = [halves.0, halves.1]
        .iter()
        .flat_map(|half| zstd::encode_all(*half, 3).unwrap())
        .collect();
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3], chunked.as_slice()].concat();
    for (packed, name) in [
        (&gzip, "gzip"),
        (&zstd, "zstd"),
        (&chunked, "zstd"),
        (&skippable, "zstd"),
    ] {
        let expected = Expected {
            blob: Digest::of(packed),
            archive: Digest::of(&plain),
        };
        let place = Place::new();
        let unpacked = unpack(
            packed.as_slice(),
            &place.root(),
            &expected,
            BOUNDS,
            &mut Unbounded,
        )
        .unwrap();
        assert_eq!(unpacked.archive_bytes, plain.len() as u64);
        assert_eq!(place.root().join("a").metadata().unwrap().len(), 60_000);

        let cut = &packed[..packed.len() - 3];
        let place = Place::new();
        let error = unpack(cut, &place.root(), &expected, BOUNDS, &mut Unbounded).unwrap_err();
        assert!(
            matches!(error, LayerError::BadPacking { packing, .. } if packing == name),
            "{error:?}"
        );
        let mut flipped = packed.clone();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 0x55;
        let place = Place::new();
        assert!(
            unpack(
                flipped.as_slice(),
                &place.root(),
                &expected,
                BOUNDS,
                &mut Unbounded
            )
            .is_err()
        );
    }
}

#[test]
fn both_digests_are_checked_to_the_last_byte() {
    let plain = Made::new().file("a", "hello").bytes();
    let zstd = zstd::encode_all(plain.as_slice(), 3).unwrap();
    let other = Digest::of(b"other");
    for (blob, archive, what) in [
        (Digest::of(&zstd), other.clone(), "layer's archive"),
        (other, Digest::of(&plain), "layer has"),
    ] {
        let place = Place::new();
        let expected = Expected { blob, archive };
        let error = unpack(zstd.as_slice(), &place.root(), &expected, BOUNDS, &mut Unbounded).unwrap_err();
        assert!(matches!(error, LayerError::WrongDigest { .. }), "{error:?}");
        assert!(error.to_string().contains(what), "{error}");
    }
    // A frame behind the archive's end that changes nothing but the blob.
    let longer = [zstd.as_slice(), &[0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0]].concat();
    let place = Place::new();
    let expected = Expected {
        blob: Digest::of(&zstd),
        archive: Digest::of(&plain),
    };
    let error = unpack(
        longer.as_slice(),
        &place.root(),
        &expected,
        BOUNDS,
        &mut Unbounded,
    )
    .unwrap_err();
    assert!(matches!(error, LayerError::WrongDigest { .. }), "{error:?}");
}

#[test]
fn a_stream_that_breaks_is_told_from_damage() {
    struct Broken(Vec<u8>, usize);
    impl io::Read for Broken {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let left = self.0.get(self.1..).unwrap_or_default();
            if left.is_empty() {
                return Err(io::Error::new(io::ErrorKind::BrokenPipe, "the registry is gone"));
            }
            let taken = left.len().min(into.len()).min(100);
            into[..taken].copy_from_slice(&left[..taken]);
            self.1 += taken;
            Ok(taken)
        }
    }
    let plain = Made::new().file("a", &"hello ".repeat(1000)).bytes();
    for packed in [plain.clone(), zstd::encode_all(plain.as_slice(), 3).unwrap()] {
        let expected = Expected {
            blob: Digest::of(&packed),
            archive: Digest::of(&plain),
        };
        let half = packed[..packed.len() / 2].to_vec();
        let place = Place::new();
        let stream = io::BufReader::new(Broken(half, 0));
        let error = unpack(stream, &place.root(), &expected, BOUNDS, &mut Unbounded).unwrap_err();
        assert!(matches!(error, LayerError::Transfer(_)), "{error:?}");
    }
}
